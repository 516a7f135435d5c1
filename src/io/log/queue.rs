//! Lines on their way to the log: a bounded queue, and a thread that does nothing but write.
//!
//! Whoever logs must never wait: stderr may be a pipe that nobody reads, a file may be on a disk that hangs. So a line
//! that finds no room is dropped and counted, and when there is room again one line tells how many were.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::super::rounds;
use crate::stats::counters::Counters;

/// Most lines that wait.
const LINES: usize = 4096;

/// Most bytes that wait.
const BYTES: usize = 4 << 20;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is something to do for the writer.
    come: Condvar,
    /// The writer has done everything.
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// The writer is at work.
    busy: bool,
    /// What the writer goes on with.
    fresh: Option<File>,
    /// Lines dropped so far, and how many of them were told of.
    dropped: u64,
    told: u64,
    /// Where they are counted. Under the lock there is one writer at a time, as a cell wants it.
    counters: Option<Arc<Counters>>,
}

impl State {
    fn drop_line(&mut self) {
        self.dropped += 1;
        if let Some(counters) = &self.counters {
            counters.log_lines_dropped.add(1);
        }
    }
}

impl Queue {
    /// Starts the thread that writes to `output`.
    pub(super) fn start(output: File) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let writer = Arc::clone(&queue);
        let mut output = output;
        rounds::spawn_rounds(rounds::LOG, move || {
            writer.write(&mut output);
            Ok(())
        })?;
        Ok(queue)
    }

    /// Hands over a line, if there is room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.lines.len() >= LINES || state.bytes + line.len() > BYTES {
            return state.drop_line();
        }
        state.bytes += line.len();
        state.lines.push_back(line.into());
        drop(state);
        self.come.notify_one();
    }

    /// Has the writer go on with another file.
    pub(super) fn turn_to(&self, fresh: File) {
        self.lock().fresh = Some(fresh);
        self.come.notify_one();
    }

    /// Counts dropped lines there as well.
    pub(super) fn count_in(&self, counters: Arc<Counters>) {
        let mut state = self.lock();
        counters.log_lines_dropped.add(state.dropped);
        state.counters = Some(counters);
    }

    /// Waits until everything is written, and another file taken, for so long at most.
    pub(super) fn flush(&self, limit: Duration) {
        let state = self.lock();
        let _ = self
            .done
            .wait_timeout_while(state, limit, |state| state.busy || !state.lines.is_empty() || state.fresh.is_some());
    }

    fn write(&self, output: &mut File) {
        loop {
            let mut state = self.lock();
            while state.lines.is_empty() && state.fresh.is_none() {
                state.busy = false;
                self.done.notify_all();
                state = self.come.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.busy = true;
            let (fresh, line) = (state.fresh.take(), state.lines.pop_front());
            state.bytes -= line.as_ref().map_or(0, |line| line.len());
            drop(state);
            if let Some(fresh) = fresh {
                *output = fresh;
            }
            let Some(line) = line else { continue };
            let written = output.write_all(&line);
            let mut state = self.lock();
            if written.is_err() {
                state.drop_line();
            } else if state.dropped > state.told && state.lines.len() <= LINES / 2 {
                // Only after a line that was written: a log that is closed must not set itself off.
                let lines = state.dropped - state.told;
                state.told = state.dropped;
                drop(state);
                warn!(lines, "log lines were dropped, because they came faster than they could be written");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    /// A queue into a pipe.
    fn piped() -> (Arc<Queue>, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let output = File::from(std::os::fd::OwnedFd::from(writer));
        (Queue::start(output).expect("a thread"), reader)
    }

    #[test]
    fn lines_come_out_as_they_went_in() {
        let (queue, mut reader) = piped();
        for number in 0..100 {
            queue.push(format!("{number}\n").as_bytes());
        }
        queue.flush(LONG);
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        let mut text = vec![0; expected.len()];
        reader.read_exact(&mut text).expect("what was written");
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    #[test]
    fn a_pipe_that_nobody_reads_keeps_nobody_waiting() {
        let (queue, reader) = piped();
        let line = [b'x'; 1000];
        for _ in 0..LINES + 100 {
            queue.push(&line);
        }
        let dropped = queue.lock().dropped;
        assert!((1..=100).contains(&dropped), "{dropped}: a pipe holds less than a hundred of them");
        let before = queue.lock().dropped;
        queue.push(&vec![b'y'; BYTES + 1]);
        assert_eq!(queue.lock().dropped, before + 1, "it would never find room");
        queue.flush(Duration::from_millis(10)); // and the end does not wait for ever
        drop(reader);
        queue.flush(LONG);
        assert!(queue.lock().lines.is_empty(), "what cannot be written is dropped");
    }

    #[test]
    fn it_goes_on_with_another_file() {
        let (queue, mut reader) = piped();
        queue.push(b"one\n");
        queue.flush(LONG);
        let (mut other, writer) = std::io::pipe().expect("a pipe");
        queue.turn_to(File::from(std::os::fd::OwnedFd::from(writer)));
        queue.push(b"two\n");
        queue.flush(LONG);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("the first file, closed");
        assert_eq!(text, "one\n");
        let mut text = [0; 4];
        other.read_exact(&mut text).expect("the second one");
        assert_eq!(&text, b"two\n");
    }
}
