//! Clients that take what others need: connections, time, frames without an end.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::good::{Stage, someone, token_of};
use crate::ground::PER_ADDRESS;
use crate::pause;
use crate::support::answer::Got;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM,
    SETTINGS, literal,
};
use crate::tally::Side;
use crate::wire::{ask, bearer, flooding, hostile, is_refused, request};

impl Stage<'_> {
    /// What takes long, or much, at a slow pace.
    pub(crate) fn floods(self) {
        while !self.tally.is_over() {
            match fastrand::u8(..6) {
                0 => self.connections(),
                1 => self.slow_head(),
                2 | 3 => self.http2_flood(),
                4 => self.stalled_reader(),
                _ => self.slow_body(),
            }
            pause(fastrand::u64(200..1200));
        }
    }

    /// More connections than an address may have; as many as are beyond that are turned away.
    fn connections(self) {
        const BEYOND: usize = 20;
        let open = |_| flooding(self.ground);
        let mut held: Vec<TcpStream> = (0..PER_ADDRESS + BEYOND).map(open).collect();
        let request = request("GET", "/own/u0/evil", "", "");
        let mut turned_away = 0;
        for stream in &mut held {
            let got = ask(stream, &request);
            if matches!(got, Got::Nothing) || is_refused(&got, &[429]) {
                turned_away += 1;
            } else {
                self.refused("connection floods", &got, &[401], "no token");
            }
        }
        let what = format!("{turned_away} were turned away");
        self.tally.check(
            Side::Hostile,
            "connection floods",
            turned_away >= BEYOND,
            &what,
        );
    }

    /// A head that comes byte by byte, until the gate has had enough.
    fn slow_head(self) {
        let mut stream = hostile(self.ground);
        let request = request("GET", "/own/u0/evil", &bearer(&token_of("u0", 600)), "");
        let mut is_left = false;
        for byte in request.as_bytes() {
            // What the gate closed resets at the second write after.
            is_left |= stream.write_all(&[*byte]).is_err();
            if is_left || self.tally.is_over() {
                break;
            }
            pause(500);
        }
        let is_right = is_left || self.tally.is_over();
        self.tally.check(
            Side::Hostile,
            "slow heads",
            is_right,
            "was waited for to the end",
        );
    }

    /// A body that never comes, until its client leaves.
    fn slow_body(self) {
        let (user, id) = (someone(), self.tally.id());
        let fields = bearer(&token_of(&user, 60)) + "content-length: 100000\r\n";
        let mut stream = hostile(self.ground);
        let head = request("POST", &format!("/own/{user}/{id}"), &fields, "");
        let is_sent = stream.write_all(head.as_bytes()).is_ok();
        pause(fastrand::u64(100..2000));
        self.tally.check(
            Side::Hostile,
            "slow bodies",
            is_sent,
            "the gate took nothing",
        );
    }

    /// Asks for much at once and takes nothing.
    fn stalled_reader(self) {
        let (user, mut stream) = (someone(), hostile(self.ground));
        let fields = bearer(&token_of(&user, 60));
        let is_sent = (0..20).all(|_| {
            let target = format!("/own/{user}/{}", self.tally.id());
            let request = request("GET", &target, &fields, "");
            stream.write_all(request.as_bytes()).is_ok()
        });
        pause(fastrand::u64(100..4000));
        self.tally.check(
            Side::Hostile,
            "stalled readers",
            is_sent,
            "the gate took nothing",
        );
    }

    /// Frames without an end; the gate ends the connection.
    fn http2_flood(self) {
        let token = format!("Bearer {}", token_of("u0", 600));
        let head = |path: &str| -> Vec<u8> {
            let fields = [
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", "gate.example"),
                (":path", path),
                ("authorization", &token),
            ];
            let literals = fields.iter().map(|(name, value)| literal(name, value));
            literals.collect::<Vec<_>>().concat()
        };
        let good = head(&format!("/own/u0/{}", self.tally.id()));
        let refused = head("/own/u1/evil");
        let mut connection = Frames::connect(self.ground.tls(), &self.ground.certificate, &[]);
        let family = fastrand::u8(..5);
        for round in 0..3000 {
            match family {
                0 => connection.send(PING, 0, 0, &[0; 8]),
                1 => connection.send(SETTINGS, 0, 0, &[]),
                2 if round == 0 => connection.send(HEADERS, 0, 1, &good),
                2 => connection.send(CONTINUATION, 0, 1, &[]),
                3 if round == 0 => connection.send(HEADERS, END_HEADERS, 1, &good),
                3 => connection.send(DATA, 0, 1, &[]),
                _ => {
                    let stream = round * 2 + 1;
                    connection.send(HEADERS, END_HEADERS | END_STREAM, stream, &refused);
                    connection.send(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
                }
            }
        }
        let what = format!("family {family}: the connection was kept");
        let is_ended = is_ended(&mut connection);
        self.tally
            .check(Side::Hostile, "HTTP/2 floods", is_ended, &what);
    }
}

fn is_ended(connection: &mut Frames) -> bool {
    while let Some(frame) = connection.next() {
        if frame.kind == GOAWAY {
            return true;
        }
    }
    // Nothing came: an end says so again at once, silence after the client's patience of 20 s.
    let again = Instant::now();
    connection.next().is_none() && again.elapsed() < Duration::from_secs(15)
}
