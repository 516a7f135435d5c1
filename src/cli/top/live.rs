//! The terminal: asks the proxy once a second, takes keys and signals, and draws after each.
//!
//! Whichever way it ends, the terminal is as before: [`Screen`] puts it back when it is dropped, ratatui's panic hook
//! when something breaks, and signals that would end the process end the loop.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::draw;
use super::overview::Overview;
use super::seen::Seen;
use super::source;
use super::view::{View, Wish};
use crate::cli::port::Trouble;
use crate::io::clock::Clock;

/// How often the proxy is asked.
const PERIOD: Duration = Duration::from_secs(1);

/// The terminal in raw mode, with its second screen.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> anyhow::Result<Self> {
        ratatui::try_init().map(Self).map_err(|error| {
            ratatui::restore(); // it may have come half of the way
            anyhow::Error::new(error).context("cannot take over the terminal; `--once` does without")
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The panic hook has done it, and leaving twice would put the cursor into what it has told.
        if !std::thread::panicking() {
            ratatui::restore();
        }
    }
}

/// Shows the proxy until it is ended.
pub(super) async fn run(mut seen: Seen, colour: bool) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut resume = signal(SignalKind::from_raw(18))?; // SIGCONT
    let mut screen = Screen::open()?;
    let clock = Clock::start();
    let mut answered_at = clock.now();
    let mut keys = read_keys()?;
    let mut answers = ask(seen.address.clone());
    let mut view = View { colour, ..View::default() };
    let mut frozen: Option<Seen> = None;
    loop {
        let shown = frozen.as_ref().unwrap_or(&seen);
        let mut scroll = view.scroll;
        screen.0.draw(|frame| scroll = draw::draw(shown, &view, frame.area(), frame.buffer_mut()))?;
        view.scroll = scroll;
        tokio::select! {
            answer = answers.recv() => match answer.context("nobody asks any more")? {
                Ok(overview) => {
                    answered_at = clock.now();
                    seen.answered(overview);
                }
                Err(trouble) => seen.failed(trouble, clock.now() - answered_at),
            },
            // Whatever it was: a new size of the screen is noticed when it is drawn.
            event = keys.recv() => if let Some(key) = event.context("the terminal cannot be read")?.as_key_press_event() {
                match view.press(key, shown) {
                    Wish::Draw => {}
                    Wish::Clear => screen.0.clear()?,
                    Wish::End => break,
                }
            },
            _ = resume.recv() => screen = reopened(screen)?,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => break,
        }
        match &mut frozen {
            Some(_) if !view.is_paused => frozen = None,
            // It stands still, but does not hide that nobody answers.
            Some(frozen) => frozen.silence.clone_from(&seen.silence),
            None if view.is_paused => frozen = Some(seen.clone()),
            None => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// After a stop from outside, a shell has had the terminal.
fn reopened(screen: Screen) -> anyhow::Result<Screen> {
    drop(screen);
    Screen::open()
}

/// What is typed, read by a thread that waits for it. It ends with the process.
fn read_keys() -> anyhow::Result<mpsc::Receiver<Event>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// What the proxy answers, once a second.
fn ask(address: String) -> mpsc::Receiver<Result<Overview, Trouble>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        period.tick().await; // the first answer is there
        loop {
            period.tick().await;
            if sender.send(source::fetch(&address).await).await.is_err() {
                return;
            }
        }
    });
    receiver
}
