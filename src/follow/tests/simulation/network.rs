//! The way to the registry, with everything that can happen on it.

use super::rng::Rng;
use super::truth::Truth;
use super::{GATES, Link};
use crate::feed::{Digest, Frame, FrameReader, Position, Summary};
use crate::follow::stream::{Ask, Failure, Registry, Reply};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::StatusCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What befalls one connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Refused,
    Hangs,
    Status(u16),
    /// These happen at an octet.
    Cut(u64),
    Ends(u64),
    HalfOpen(u64),
    Flip(u64),
    Slow,
    /// These happen to a frame.
    Digest(u64),
    Count(u64),
    Gap(u64),
    Twice(u64),
    Back(u64),
    Epoch(u64),
}

impl Fault {
    fn pick(rng: &mut Rng) -> Self {
        let (at, frame) = (rng.below(1_200), rng.below(4));
        match rng.below(30) {
            0 | 1 => Self::Refused,
            2 => Self::Hangs,
            3 => Self::Status([500, 503, 404, 302][rng.index(4)]),
            4..=6 => Self::Cut(at),
            7 => Self::Ends(at),
            8 | 9 => Self::HalfOpen(at),
            10 | 11 => Self::Flip(at),
            12 => Self::Slow,
            13 => Self::Digest(frame),
            14 => Self::Count(frame),
            15 => Self::Gap(frame),
            16 => Self::Twice(frame),
            17 => Self::Back(frame),
            18 => Self::Epoch(frame),
            _ => Self::None,
        }
    }
}

/// What all gates and the driver share.
pub(super) struct World {
    pub(super) truth: Truth,
    pub(super) is_faulty: bool,
    /// Honest words that left for each gate: when, and how many.
    pub(super) said: [Option<Instant>; GATES],
    pub(super) acknowledged: [Option<Position>; GATES],
    pub(super) violations: Vec<String>,
    pub(super) seen: Seen,
}

/// That the faults and the ways out of them came up at all.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    pub(super) resumed: u64,
    pub(super) repairs: u64,
    pub(super) held: u64,
}

/// One gate's way to the registry.
pub(super) struct Network {
    pub(super) world: Link,
    pub(super) gate: usize,
    /// Of this gate alone, so that the order in which gates ask changes nothing.
    pub(super) rng: Mutex<Rng>,
}

impl Registry for Network {
    fn ask(&self, ask: Ask) -> BoxFuture<'static, Result<Reply, Failure>> {
        let (world, gate) = (Arc::clone(&self.world), self.gate);
        let rng = Rng(self.rng.lock().unwrap().next());
        Box::pin(async move { answer(world, gate, ask, rng).await })
    }
}

async fn answer(world: Link, gate: usize, ask: Ask, mut rng: Rng) -> Result<Reply, Failure> {
    let fault = if world.lock().unwrap().is_faulty { Fault::pick(&mut rng) } else { Fault::None };
    // No two things happen at once.
    sleep(Duration::from_micros(200 + rng.below(40_000))).await;
    match fault {
        Fault::Refused => return Err(Failure::Unreachable("refused".into())),
        Fault::Hangs => sleep(Duration::from_secs(3_600)).await,
        Fault::Status(status) => return Ok(reply(status, None, None, stream::empty().boxed())),
        _ => {}
    }
    if !world.lock().unwrap().truth.is_up {
        return Err(Failure::Unreachable("down".into()));
    }
    match ask {
        Ask::Changes(after) => Ok(changes(world, gate, after, fault, rng)),
        Ask::Snapshot(rest) => {
            let mut locked = world.lock().unwrap();
            let is_anew = rng.chance(10);
            let file = locked.truth.file(crate::follow::tests::PROVIDER, is_anew);
            let rest = rest.filter(|rest| *rest.etag == *file.etag);
            let from = rest.map(|rest| rest.from);
            locked.seen.resumed += u64::from(from.is_some_and(|from| from > 0));
            drop(locked);
            let octets = file.octets.slice(usize::try_from(from.unwrap_or(0)).unwrap()..);
            let status = if from.is_some() { 206 } else { 200 };
            Ok(reply(status, Some(file.etag.into()), from, pieces(octets, fault, rng)))
        }
        Ask::Repair(body) => Ok(repair(&world, gate, &body, fault, rng)),
        Ask::Acknowledge(body) => {
            acknowledge(&world, gate, &body);
            Ok(reply(204, None, None, stream::empty().boxed()))
        }
    }
}

type Body = BoxStream<'static, Result<Bytes, Failure>>;

fn reply(status: u16, etag: Option<Box<str>>, starts_at: Option<u64>, body: Body) -> Reply {
    Reply { status: StatusCode::from_u16(status).unwrap(), etag, starts_at, body }
}

fn acknowledge(world: &Link, gate: usize, body: &[u8]) {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    let position = Position { epoch: body["epoch"].as_u64().unwrap(), seq: body["seq"].as_u64().unwrap() };
    let mut world = world.lock().unwrap();
    let is_right = world.truth.state(position).is_some()
        && body["digest"] == world.truth.summary(position).digest.to_string();
    // A gate whose memory a fault changed says what it holds.
    if is_right {
        world.acknowledged[gate] = Some(position);
    }
}

fn repair(world: &Link, gate: usize, body: &[u8], fault: Fault, rng: Rng) -> Reply {
    let mut reader = FrameReader::default();
    reader.push(body);
    let Ok(Some(Frame::Ranges { summary, ranges })) = reader.next_frame() else {
        world.lock().unwrap().violations.push("a repair was asked for without ranges".into());
        return reply(400, None, None, stream::empty().boxed());
    };
    let mut world = world.lock().unwrap();
    let Some(mut frames) = world.truth.repair(&summary, &ranges) else {
        return reply(410, None, None, stream::empty().boxed());
    };
    match (fault, &mut frames[..]) {
        (Fault::Digest(_), [Frame::Ranges { summary, .. }, ..]) => summary.digest = Digest(7),
        (Fault::Count(_), [_, Frame::Entries(entries), _]) => drop(entries.pop()),
        (Fault::Epoch(_), [Frame::Ranges { summary, .. }, ..]) => summary.position.epoch += 77,
        (Fault::Gap(_), [Frame::Ranges { ranges, .. }, ..]) => drop(ranges.pop()),
        _ => {
            world.said[gate] = Some(Instant::now());
            world.seen.repairs += 1;
        }
    }
    let octets: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
    reply(200, None, None, pieces(octets.into(), fault, rng))
}

/// A whole body in pieces, as the fault has it.
fn pieces(octets: Bytes, fault: Fault, rng: Rng) -> Body {
    wire(
        stream::unfold((octets, rng), |(mut octets, mut rng)| async move {
            if octets.is_empty() {
                return None;
            }
            let piece = octets.split_to((1 + rng.index(200)).min(octets.len()));
            Some((piece, (octets, rng)))
        })
        .boxed(),
        fault,
    )
}

/// What arrives of what is sent.
fn wire(sent: BoxStream<'static, Bytes>, fault: Fault) -> Body {
    stream::unfold((sent, 0_u64, false), move |(mut sent, begin, is_over)| async move {
        if is_over {
            return None;
        }
        if fault == Fault::Slow {
            sleep(Duration::from_millis(2_900)).await;
        }
        let octets = sent.next().await?;
        let end = begin + octets.len() as u64;
        let before = |at: u64| octets.slice(..usize::try_from(at - begin).unwrap());
        let (item, is_over) = match fault {
            Fault::Cut(at) | Fault::Ends(at) | Fault::HalfOpen(at) if at >= begin && at < end => {
                if at > begin {
                    // The next turn finds nothing left before the octet.
                    let kept = before(at);
                    let rest = stream::once(std::future::ready(octets.slice(kept.len()..))).chain(sent);
                    return Some((Ok(kept), (rest.boxed(), at, false)));
                }
                match fault {
                    Fault::Ends(_) => return None,
                    Fault::HalfOpen(_) => return std::future::pending().await,
                    _ => (Err(Failure::Unreachable("reset".into())), true),
                }
            }
            Fault::Flip(at) if (begin..end).contains(&at) => {
                let mut flipped = octets.to_vec();
                flipped[usize::try_from(at - begin).unwrap()] ^= 0x10;
                (Ok(flipped.into()), false)
            }
            _ => (Ok(octets), false),
        };
        Some((item, (sent, end, is_over)))
    })
    .boxed()
}

/// A stream of changes at the registry's end.
struct Open {
    world: Link,
    gate: usize,
    life: u64,
    position: Position,
    fault: Fault,
    frames: u64,
    rng: Rng,
    again: Option<Frame>,
}

fn changes(world: Link, gate: usize, position: Position, fault: Fault, rng: Rng) -> Reply {
    let locked = world.lock().unwrap();
    if !locked.truth.keeps(position) {
        return reply(410, None, None, stream::empty().boxed());
    }
    let life = locked.truth.life;
    drop(locked);
    let open = Open { world, gate, life, position, fault, frames: 0, rng, again: None };
    let sent = stream::unfold(open, |mut open| async move {
        let frame = open.next().await?;
        Some((frame.to_bytes(), open))
    });
    reply(200, None, None, wire(sent.boxed(), fault))
}

impl Open {
    async fn next(&mut self) -> Option<Frame> {
        if let Some(again) = self.again.take() {
            return Some(again);
        }
        let since = Instant::now();
        loop {
            {
                let world = Arc::clone(&self.world);
                let mut world = world.lock().unwrap();
                if world.truth.life != self.life || !world.truth.is_up {
                    return None;
                }
                let frame = match world.truth.next_change(self.position) {
                    _ if self.frames == 0 => Some(Frame::Heartbeat(world.truth.summary(self.position))),
                    None if since.elapsed() >= Duration::from_secs(1) => {
                        Some(Frame::Heartbeat(world.truth.summary(world.truth.position)))
                    }
                    next => next,
                };
                if let Some(frame) = frame {
                    return Some(self.send(frame, &mut world));
                }
            }
            let _ =
                timeout(Duration::from_millis(40 + self.rng.below(20)), std::future::pending::<()>()).await;
        }
    }

    /// The frame as it is, or as the fault has it.
    fn send(&mut self, mut frame: Frame, world: &mut World) -> Frame {
        self.frames += 1;
        let (Frame::Batch { summary, .. } | Frame::Heartbeat(summary)) = &frame else { return frame };
        self.position = summary.position;
        let is_now = |at: u64| self.frames == at + 1;
        match (self.fault, &mut frame) {
            (Fault::Twice(at), _) if is_now(at) => self.again = Some(frame.clone()),
            (Fault::Gap(at), Frame::Batch { after, .. }) if is_now(at) => {
                after.seq += 1;
                return frame;
            }
            (Fault::Digest(at), Frame::Batch { summary, .. } | Frame::Heartbeat(summary)) if is_now(at) => {
                summary.digest = Digest(summary.digest.0 ^ 1);
                return frame;
            }
            (Fault::Count(at), Frame::Batch { entries, .. }) if is_now(at) => {
                // A change is lost on the way.
                entries.pop();
                return frame;
            }
            (Fault::Count(at), Frame::Heartbeat(summary)) if is_now(at) => {
                summary.count += 1;
                return frame;
            }
            (Fault::Epoch(at), Frame::Batch { summary, .. } | Frame::Heartbeat(summary)) if is_now(at) => {
                summary.position.epoch += 77;
                return frame;
            }
            (Fault::Back(at), _) if is_now(at) => {
                // What the registry once was, told as if it were so now.
                if let Some(frame) = back(&world.truth, self.position) {
                    return frame;
                }
            }
            _ => {}
        }
        world.said[self.gate] = Some(Instant::now());
        frame
    }
}

/// A word that was right at an earlier position: with the digest that is held, or as a batch that leads back.
fn back(truth: &Truth, position: Position) -> Option<Frame> {
    let seq = (0..position.seq).rev().find(|&seq| truth.state(Position { seq, ..position }).is_some())?;
    let earlier = Position { seq, ..position };
    let (then, now) = (truth.state(earlier)?, truth.state(position)?);
    if then == now {
        return Some(Frame::Heartbeat(Summary { position: earlier, ..truth.summary(position) }));
    }
    let changed = (0..now.len()).filter(|&index| then[index] != now[index]);
    let entries = changed.map(|index| truth.entry(position.epoch, index, then[index])).collect();
    Some(Frame::Batch { after: position, entries, summary: truth.summary(earlier) })
}
