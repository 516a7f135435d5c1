//! A wire that can go bad: it stands between the proxy and a healthy server, and does to the bytes what networks and
//! broken machines do.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::bad::reset;

/// How late [`Wire::Lags`] is.
const LAG: Duration = Duration::from_millis(300);

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wire {
    /// Carries every byte.
    Good,
    /// Swallows everything, both ways; connects succeed.
    Silent,
    /// Breaks every connection, new ones as well.
    Resets,
    /// Closes every connection, new ones as well.
    Closes,
    /// Carries a part of what a server says, then closes.
    Cuts,
    /// Says twice what a server says, now and then.
    Repeats,
    /// Loses what a server says, now and then.
    Loses,
    /// Puts junk between what a server says, now and then.
    Babbles,
    /// Carries what a server says in drops.
    Drips,
    /// Carries what a server says 300 ms later.
    Lags,
}

impl Wire {
    pub(crate) const BAD: [Self; 8] =
        [Self::Silent, Self::Resets, Self::Closes, Self::Cuts, Self::Repeats, Self::Loses, Self::Babbles, Self::Drips];

    fn from_number(number: u8) -> Self {
        Self::BAD.into_iter().chain([Self::Lags]).find(|wire| *wire as u8 == number).unwrap_or(Self::Good)
    }
}

#[derive(Debug)]
struct Shared {
    wire: AtomicU8,
    over: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn wire(&self) -> Wire {
        Wire::from_number(self.wire.load(Ordering::Relaxed))
    }
}

/// A wire to one server.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let shared =
            Arc::new(Shared { wire: AtomicU8::new(0), over: AtomicBool::new(false), connections: Mutex::default() });
        let relay = Self { address, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(far) = TcpStream::connect(server) else { continue };
                let _ = near.set_nodelay(true);
                let _ = far.set_nodelay(true);
                join(&shared, near, far);
            }
        });
        relay
    }

    /// From here on, the wire is like this.
    pub(crate) fn set(&self, wire: Wire) {
        self.shared.wire.store(wire as u8, Ordering::Relaxed);
        if matches!(wire, Wire::Resets | Wire::Closes) {
            for stream in self.shared.connections.lock().expect("connections").drain(..) {
                if wire == Wire::Resets {
                    reset(&stream);
                }
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.set(Wire::Closes);
        let _ = TcpStream::connect(self.address); // wakes the listener
    }
}

/// Carries bytes both ways, on two threads.
fn join(shared: &Arc<Shared>, near: TcpStream, far: TcpStream) {
    let wire = shared.wire();
    if wire == Wire::Resets {
        reset(&near);
    }
    if matches!(wire, Wire::Resets | Wire::Closes) {
        return;
    }
    let copy = |stream: &TcpStream| stream.try_clone().expect("a second handle");
    shared.connections.lock().expect("connections").push(copy(&near));
    let (mut near_in, mut far_out, requests) = (copy(&near), copy(&far), Arc::clone(shared));
    std::thread::spawn(move || {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(read @ 1..) = near_in.read(&mut chunk) {
            if requests.wire() != Wire::Silent && far_out.write_all(&chunk[..read]).is_err() {
                break;
            }
        }
        let _ = far_out.shutdown(Shutdown::Both);
    });
    let (mut far_in, mut near_out, responses) = (far, near, Arc::clone(shared));
    std::thread::spawn(move || {
        let mut chunk = vec![0; 64 << 10];
        let mut turn = 0_usize;
        let mut late: Option<Sender<(Instant, Vec<u8>)>> = None;
        while let Ok(read @ 1..) = far_in.read(&mut chunk) {
            turn += 1;
            let bytes = &chunk[..read];
            let now_and_then = turn.is_multiple_of(3);
            let wire = responses.wire();
            if late.is_some() || wire == Wire::Lags {
                // Once something is late, what follows must not overtake it.
                let due = Instant::now() + if wire == Wire::Lags { LAG } else { Duration::ZERO };
                let queue = late.get_or_insert_with(|| carry_late(copy(&near_out)));
                if queue.send((due, bytes.to_vec())).is_err() {
                    break;
                }
                continue;
            }
            let carried = match wire {
                Wire::Silent => Ok(()),
                Wire::Cuts => {
                    let _ = near_out.write_all(&bytes[..read / 2]);
                    break;
                }
                Wire::Repeats if now_and_then => near_out.write_all(&[bytes, bytes].concat()),
                Wire::Loses if now_and_then => Ok(()),
                Wire::Babbles if now_and_then => near_out.write_all(&[b"\x00\xff?\r\n", bytes].concat()),
                Wire::Drips => bytes.chunks(7).take(200).try_for_each(|drop| {
                    std::thread::sleep(Duration::from_millis(5));
                    near_out.write_all(drop)
                }),
                Wire::Good | Wire::Resets | Wire::Closes | Wire::Repeats | Wire::Loses | Wire::Babbles | Wire::Lags => {
                    near_out.write_all(bytes)
                }
            };
            if carried.is_err() {
                break;
            }
        }
        let _ = near_out.shutdown(Shutdown::Both);
    });
}

/// Writes each piece when it is due.
fn carry_late(mut near: TcpStream) -> Sender<(Instant, Vec<u8>)> {
    let (queue, pieces) = channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (due, piece) in pieces {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if near.write_all(&piece).is_err() {
                break;
            }
        }
    });
    queue
}
