use std::net::{TcpListener, TcpStream};

use super::*;
use crate::io::Proxy;

/// A proxy of the pools that a text names, each with where it listens; the text can be changed.
fn proxy(text: &Arc<Mutex<String>>) -> Proxy {
    let text = Arc::clone(text);
    let source = Source::new("/nowhere".into(), move || crate::config::parse("file", &text.lock().unwrap()));
    let config = source.load().unwrap().config;
    Proxy::start(config, Some(source), Inherited::default()).unwrap()
}

fn pools(all: &[(&str, u16)]) -> String {
    let pool = |(name, port): &(&str, u16)| {
        format!("{name}: {{listen: '127.0.0.1:{port}', timeout: 400, servers: ['127.0.0.1:1:1']}}\n")
    };
    all.iter().map(pool).collect()
}

#[test]
fn an_address_that_was_left_is_free_for_the_next_reload_however_busy_the_worker_is() {
    let free = || TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let (a, b) = (free(), free());
    let text = Arc::new(Mutex::new(pools(&[("a", a), ("b", b)])));
    let proxy = proxy(&text);
    let operator = proxy.operator(None);
    let (_nothing, to_come) = mpsc::channel::<()>();
    operator.have_worker_do(0, move || {
        let _ = to_come.recv_timeout(Duration::from_millis(300));
        Ok(())
    });
    for all in [&[("a", a)][..], &[("a", a), ("c", b)]] {
        *text.lock().unwrap() = pools(all);
        operator.reload("test").unwrap();
    }
    assert!(TcpStream::connect(("127.0.0.1", b)).is_ok());
    proxy.shutdown();
    assert!(matches!(operator.reload("test"), Err(Refused::Ending)));
}

#[test]
fn a_reload_that_waits_for_a_name_does_not_keep_the_process_from_ending() {
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let text = pools(&[("a", free)]);
    let config = crate::config::parse("file", &text).unwrap().config;
    let (waits, is_waiting) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let answers = Mutex::new(answers);
    let source = Source::new("/nowhere".into(), move || {
        waits.send(()).unwrap();
        answers.lock().unwrap().recv().unwrap();
        crate::config::parse("file", &text)
    });
    let proxy = Proxy::start(config, Some(source), Inherited::default()).unwrap();
    let operator = proxy.operator(None);
    let reload = std::thread::spawn(move || operator.reload("test"));
    is_waiting.recv().unwrap();
    let (end, ended) = mpsc::channel();
    let ending = std::thread::spawn(move || {
        proxy.shutdown();
        end.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(20)).expect("it ends");
    answer.send(()).unwrap();
    assert!(matches!(reload.join().unwrap(), Err(Refused::Ending)));
    ending.join().unwrap();
}
