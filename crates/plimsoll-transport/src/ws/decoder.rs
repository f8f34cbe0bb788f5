//! From bytes to messages.

use std::mem;
use std::ops::ControlFlow;

use simdutf8::{basic, compat};

use super::frame::{self, Expect, Frame, HEADER_MAX, Role};
use super::{Event, Limits, OnEvent, Opcode, Violation, apply_mask};
use crate::deflate::Inflater;

const NOT_UTF8: Violation = Violation { code: 1007, reason: "a text is not UTF-8" };
const TOO_BIG: Violation = Violation { code: 1009, reason: "the message is too big" };
const TOO_MANY: Violation = Violation { code: 1008, reason: "the message has too many fragments" };

/// Reads a client's frames, for a server.
///
/// Eight bytes while nothing is under way: what a connection that waits for its next message costs.
#[derive(Debug, Default)]
pub struct Decoder(Option<Box<Partial>>);

/// Reads a server's frames, for a client: those are not masked.
#[derive(Debug, Default)]
pub struct ClientDecoder(Decoder);

/// What has arrived of a frame or message that is not complete.
#[derive(Debug, Default)]
struct Partial {
    /// The connection is closing: whatever comes is ignored.
    closed: bool,
    /// The first bytes of a header.
    header: [u8; HEADER_MAX],
    header_len: usize,
    /// A frame whose payload is not all here, and how much of it is.
    frame: Option<Frame>,
    got: usize,
    /// Payload of a control frame in `frame`.
    control: Vec<u8>,
    /// The message under way and its payload so far, unmasked. It grows with what arrives.
    message: Option<Message>,
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    text: bool,
    compressed: bool,
    fragments: usize,
    /// Bytes of `data` known to be whole characters.
    checked: usize,
}

impl Partial {
    fn is_empty(&self) -> bool {
        !self.closed && self.header_len == 0 && self.frame.is_none() && self.message.is_none()
    }
}

/// What a call to `decode` brings along.
struct Context<'a, 'f> {
    role: Role,
    limits: &'a Limits,
    inflater: &'a mut Inflater,
    on_event: &'a mut OnEvent<'f>,
}

type Step = Result<ControlFlow<()>, Violation>;

impl Decoder {
    /// Calls `on_event` for each complete message in order. All of `input` is taken: what is
    /// incomplete is kept.
    ///
    /// After a close frame, a violation or a `Break` everything else is ignored, now and in later
    /// calls.
    ///
    /// # Errors
    ///
    /// The first violation, as soon as the bytes show it.
    pub fn decode(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        inflater: &mut Inflater,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Violation> {
        self.run(input, &mut Context { role: Role::Server, limits, inflater, on_event })
    }

    /// Whether no frame or message is under way.
    pub fn is_idle(&self) -> bool {
        self.0.as_deref().is_none_or(|partial| partial.closed || partial.is_empty())
    }

    /// Bytes allocated for what is under way.
    pub fn held_bytes(&self) -> usize {
        self.0.as_deref().map_or(0, |partial| {
            size_of::<Partial>() + partial.control.capacity() + partial.data.capacity()
        })
    }

    fn run(&mut self, input: &mut [u8], context: &mut Context<'_, '_>) -> Result<(), Violation> {
        let mut rest = input;
        while !rest.is_empty() {
            if self.0.as_deref().is_some_and(|partial| partial.closed) {
                return Ok(());
            }
            let step = match self.0.as_deref().and_then(|partial| partial.frame) {
                Some(frame) => self.payload(frame, &mut rest, context),
                None => self.header(&mut rest, context),
            };
            if !matches!(step, Ok(ControlFlow::Continue(()))) {
                self.0 = Some(Box::new(Partial { closed: true, ..Partial::default() }));
                return step.map(|_| ());
            }
            if self.0.as_deref().is_some_and(Partial::is_empty) {
                self.0 = None;
            }
        }
        Ok(())
    }

    /// Takes a header off `rest`, and its payload if that is all there.
    fn header(&mut self, rest: &mut &mut [u8], context: &mut Context<'_, '_>) -> Step {
        let Some(frame) = self.next_frame(rest, context)? else {
            return Ok(ControlFlow::Continue(()));
        };
        self.check(frame, context.limits)?;
        if rest.len() < frame.len {
            let partial = self.0.get_or_insert_default();
            partial.frame = Some(frame);
            partial.got = 0;
            if !frame.is_control() {
                partial.begin(frame);
            }
            return Ok(ControlFlow::Continue(()));
        }
        let payload = take(rest, frame.len);
        unmask(payload, frame, 0);
        if frame.is_control() {
            return control(frame.opcode, payload, context);
        }
        if frame.fin && frame.opcode != Opcode::Continuation {
            return deliver(frame.opcode == Opcode::Text, frame.compressed, payload, context);
        }
        let partial = self.0.get_or_insert_default();
        partial.begin(frame);
        partial.append(payload)?;
        self.finish(frame, context)
    }

    fn next_frame(
        &mut self,
        rest: &mut &mut [u8],
        context: &Context<'_, '_>,
    ) -> Result<Option<Frame>, Violation> {
        let open = self.0.as_deref().is_some_and(|partial| partial.message.is_some());
        let compression = context.limits.compression;
        let expect = Expect { role: context.role, compression, open };
        let stashed = self.0.as_deref().map_or(0, |partial| partial.header_len);
        if stashed == 0
            && let Some((frame, len)) = frame::read(rest, expect)?
        {
            take(rest, len);
            return Ok(Some(frame));
        }
        let partial = self.0.get_or_insert_default();
        loop {
            let Some(byte) = take(rest, 1).first() else { return Ok(None) };
            if let Some(slot) = partial.header.get_mut(partial.header_len) {
                *slot = *byte;
                partial.header_len += 1;
            }
            let header = partial.header.get(..partial.header_len).unwrap_or_default();
            if let Some((frame, _)) = frame::read(header, expect)? {
                partial.header_len = 0;
                return Ok(Some(frame));
            }
        }
    }

    /// Refuses what is too big at its header, before a byte of it is kept.
    fn check(&self, frame: Frame, limits: &Limits) -> Result<(), Violation> {
        if frame.is_control() {
            return Ok(());
        }
        let message = self.0.as_deref().and_then(|partial| partial.message);
        let fragments = message.map_or(0, |message| message.fragments) + 1;
        let compressed = message.map_or(frame.compressed, |message| message.compressed);
        let so_far = self.0.as_deref().map_or(0, |partial| partial.data.len());
        let max = match compressed {
            // What cannot be compressed grows a little; the inflater holds to the limit itself.
            true => limits.message_bytes_max.saturating_add(limits.message_bytes_max / 64 + 64),
            false => limits.message_bytes_max,
        };
        match so_far.checked_add(frame.len) {
            Some(sum) if sum <= max && fragments <= limits.fragments_max => Ok(()),
            Some(sum) if sum <= max => Err(TOO_MANY),
            _ => Err(TOO_BIG),
        }
    }

    /// Takes what there is of the payload of the frame under way.
    fn payload(
        &mut self,
        frame: Frame,
        rest: &mut &mut [u8],
        context: &mut Context<'_, '_>,
    ) -> Step {
        let Some(partial) = self.0.as_deref_mut() else { return Ok(ControlFlow::Continue(())) };
        let part = take(rest, (frame.len - partial.got).min(rest.len()));
        unmask(part, frame, partial.got);
        partial.got += part.len();
        let done = partial.got == frame.len;
        if done {
            partial.frame = None;
        }
        if !frame.is_control() {
            partial.append(part)?;
            return match done {
                true => self.finish(frame, context),
                false => Ok(ControlFlow::Continue(())),
            };
        }
        partial.control.extend_from_slice(part);
        match done {
            true => control(frame.opcode, &mem::take(&mut partial.control), context),
            false => Ok(ControlFlow::Continue(())),
        }
    }

    /// A data frame is complete, and with it the message if it was the last.
    fn finish(&mut self, frame: Frame, context: &mut Context<'_, '_>) -> Step {
        let Some(partial) = self.0.as_deref_mut().filter(|_| frame.fin) else {
            return Ok(ControlFlow::Continue(()));
        };
        let data = mem::take(&mut partial.data);
        match partial.message.take() {
            Some(message) => deliver(message.text, message.compressed, &data, context),
            None => Ok(ControlFlow::Continue(())),
        }
    }
}

impl Partial {
    /// Counts a data frame to the message under way, or starts one.
    fn begin(&mut self, frame: Frame) {
        let (text, compressed) = (frame.opcode == Opcode::Text, frame.compressed);
        let message = Message { text, compressed, fragments: 0, checked: 0 };
        self.message.get_or_insert(message).fragments += 1;
    }

    /// Keeps a part of the message; text that can no longer become UTF-8 is refused at once.
    fn append(&mut self, part: &[u8]) -> Result<(), Violation> {
        self.data.extend_from_slice(part);
        let Some(message) = self.message.as_mut().filter(|m| m.text && !m.compressed) else {
            return Ok(());
        };
        let unchecked = self.data.get(message.checked..).unwrap_or_default();
        match compat::from_utf8(unchecked) {
            Ok(text) => message.checked += text.len(),
            // The last character is not all here.
            Err(error) if error.error_len().is_none() => message.checked += error.valid_up_to(),
            Err(_) => return Err(NOT_UTF8),
        }
        Ok(())
    }
}

impl ClientDecoder {
    /// See [`Decoder::decode`].
    ///
    /// # Errors
    ///
    /// The first violation, as soon as the bytes show it.
    pub fn decode(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        inflater: &mut Inflater,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Violation> {
        self.0.run(input, &mut Context { role: Role::Client, limits, inflater, on_event })
    }

    /// Whether no frame or message is under way.
    pub fn is_idle(&self) -> bool {
        self.0.is_idle()
    }
}

/// Cuts `len` bytes off the front; nothing if there are fewer.
fn take<'b>(rest: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    rest.split_off_mut(..len).unwrap_or_default()
}

fn unmask(payload: &mut [u8], frame: Frame, offset: usize) {
    if let Some(mask) = frame.mask {
        apply_mask(payload, mask, offset);
    }
}

fn deliver(text: bool, compressed: bool, data: &[u8], context: &mut Context<'_, '_>) -> Step {
    let data = match compressed {
        true => context.inflater.inflate(data, context.limits.message_bytes_max)?,
        false => data,
    };
    let event = match text {
        true => Event::Text(basic::from_utf8(data).map_err(|_| NOT_UTF8)?),
        false => Event::Binary(data),
    };
    Ok((context.on_event)(event))
}

fn control(opcode: Opcode, payload: &[u8], context: &mut Context<'_, '_>) -> Step {
    match opcode {
        Opcode::Ping => Ok((context.on_event)(Event::Ping(payload))),
        Opcode::Pong => Ok((context.on_event)(Event::Pong(payload))),
        _ => {
            let (code, reason) = close_of(payload)?;
            // Whatever the caller says: nothing counts after a close.
            let _ = (context.on_event)(Event::Close { code, reason });
            Ok(ControlFlow::Break(()))
        }
    }
}

fn close_of(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else { return Ok((None, "")) };
    let code = u16::from_be_bytes(*code);
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => {}
        _ => return Err(Violation { code: 1002, reason: "a close code is not allowed" }),
    }
    let reason = basic::from_utf8(reason);
    let reason =
        reason.map_err(|_| Violation { reason: "a close reason is not UTF-8", ..NOT_UTF8 })?;
    Ok((Some(code), reason))
}
