//! Read marks: how far each user of a channel has read.
//!
//! A mark only rises. What changed is told in one publication for each interval: the marks
//! themselves as long as the channel has few readers, above that how many have read how far. Each
//! reader telling each other reader of each message would be quadratic in the size of a room.

use crate::limits;
use crate::map::{self, Map};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// One mark as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whose; `None` = of who sent it.
    pub user: Option<String>,
    /// Up to where, at most [`limits::READ_OFFSET_MAX`].
    pub offset: u64,
}

/// What became of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is the highest of its user.
    Risen,
    /// There was as high a one.
    Old,
    /// There is no room for one more user.
    Full,
}

/// The marks of one channel.
pub struct Marks {
    by_user: Map<Arc<str>, Mark>,
    /// How many users stand at each offset.
    by_offset: BTreeMap<u64, u32>,
    /// Users whose mark has risen since it was told, each once.
    risen: Vec<Arc<str>>,
    /// The last publication had the marks themselves, not how many.
    named: bool,
    /// When the next publication is due; `u64::MAX` = nothing is to be told.
    push_ms: u64,
    /// When expired marks are looked for.
    look_ms: u64,
}

struct Mark {
    offset: u64,
    /// It is in `risen`.
    risen: bool,
    until_ms: u64,
}

impl Marks {
    /// No marks. `seed` feeds hashing.
    pub fn new(seed: u64) -> Self {
        Self {
            by_user: map::with_seed(seed),
            by_offset: BTreeMap::new(),
            risen: Vec::new(),
            named: true,
            push_ms: u64::MAX,
            look_ms: u64::MAX,
        }
    }

    /// Users with a mark.
    pub fn len(&self) -> usize {
        self.by_user.len()
    }

    /// Has this user one?
    pub fn knows(&self, user: &str) -> bool {
        self.by_user.contains_key(user)
    }

    /// Nobody has one.
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }

    /// When the next publication is due; `u64::MAX` = never.
    pub fn push_ms(&self) -> u64 {
        self.push_ms
    }

    /// When [`Marks::expire`] has something to look for.
    pub fn look_ms(&self) -> u64 {
        self.look_ms
    }

    /// Is something to be told?
    pub fn owes(&self) -> bool {
        !self.risen.is_empty()
    }

    /// A user has read so far. Without a further word the mark is kept for `ttl_ms`.
    pub fn note(&mut self, user: &Arc<str>, offset: u64, now_ms: u64, ttl_ms: u64) -> Noted {
        let until_ms = now_ms.saturating_add(ttl_ms);
        self.look_ms = self.look_ms.min(until_ms);
        if let Some(mark) = self.by_user.get_mut(user) {
            mark.until_ms = until_ms;
            if offset <= mark.offset {
                return Noted::Old;
            }
            let before = std::mem::replace(&mut mark.offset, offset);
            if !std::mem::replace(&mut mark.risen, true) {
                self.risen.push(Arc::clone(user));
            }
            self.stand(before, -1);
        } else if self.by_user.len() >= limits::READERS_PER_CHANNEL_MAX {
            return Noted::Full;
        } else {
            let mark = Mark { offset, risen: true, until_ms };
            self.by_user.insert(Arc::clone(user), mark);
            self.risen.push(Arc::clone(user));
        }
        self.stand(offset, 1);
        Noted::Risen
    }

    /// The next publication is due by then.
    pub fn plan(&mut self, at_ms: u64) {
        if self.owes() {
            self.push_ms = self.push_ms.min(at_ms);
        }
    }

    /// Nothing is due any more: it is kept back, or has been told.
    pub fn unplan(&mut self) {
        self.push_ms = u64::MAX;
    }

    /// Forgets marks whose time is over; how many they were.
    pub fn expire(&mut self, now_ms: u64) -> usize {
        if self.look_ms > now_ms {
            return 0;
        }
        let before = self.by_user.len();
        let gone = self.by_user.extract_if(|_, mark| mark.until_ms <= now_ms);
        let offsets: Vec<u64> = gone.map(|(_, mark)| mark.offset).collect();
        offsets.into_iter().for_each(|offset| self.stand(offset, -1));
        self.risen.retain(|user| self.by_user.contains_key(user));
        let next = self.by_user.values().map(|m| m.until_ms).min();
        // Not for each mark by itself: looking costs as much as there are marks.
        let apart = now_ms + limits::READ_MARKS_LOOK_MS;
        self.look_ms = next.map_or(u64::MAX, |at| at.max(apart));
        before - self.by_user.len()
    }

    /// All that a new subscriber has to know; `None` = nothing yet.
    pub fn snapshot(&self, user: &str) -> Option<Box<str>> {
        if self.is_empty() {
            return None;
        }
        if self.is_named() {
            let all = self.by_user.iter().map(|(user, mark)| (&**user, mark.offset));
            return Some(named(all).into());
        }
        let mut text = self.steps();
        if let Some(mark) = self.by_user.get(user) {
            let _ = write!(text, ",\"read\":{}", mark.offset);
        }
        text.push('}');
        Some(text.into())
    }

    /// What is to be told now, and that it has been.
    pub fn take(&mut self) -> Option<Box<str>> {
        self.unplan();
        let risen = std::mem::take(&mut self.risen);
        for user in &risen {
            if let Some(mark) = self.by_user.get_mut(user) {
                mark.risen = false;
            }
        }
        if risen.is_empty() {
            return None;
        }
        let named_now = self.is_named();
        let was_named = std::mem::replace(&mut self.named, named_now);
        if !self.named {
            return Some((self.steps() + "}").into());
        }
        if !was_named {
            // While there were many, names were not told.
            return self.snapshot("");
        }
        let marks = risen.iter().filter_map(|u| Some((&**u, self.by_user.get(u)?.offset)));
        Some(named(marks).into())
    }

    fn is_named(&self) -> bool {
        self.by_user.len() <= limits::READERS_NAMED_MAX
    }

    fn stand(&mut self, offset: u64, more: i32) {
        let count = self.by_offset.entry(offset).or_default();
        *count = count.saturating_add_signed(more);
        if *count == 0 {
            self.by_offset.remove(&offset);
        }
    }

    /// How many have read at least up to each of the highest marks; without the last brace.
    fn steps(&self) -> String {
        let mut text = String::from("{\"read_by\":[");
        let mut users = 0;
        for (n, (offset, count)) in
            self.by_offset.iter().rev().take(limits::READ_STEPS_MAX).enumerate()
        {
            users += count;
            let comma = if n > 0 { "," } else { "" };
            let _ = write!(text, "{comma}{{\"offset\":{offset},\"users\":{users}}}");
        }
        let _ = write!(text, "],\"readers\":{}", self.by_user.len());
        text
    }
}

fn named<'a>(marks: impl Iterator<Item = (&'a str, u64)>) -> String {
    let mut text = String::from("{\"receipts\":{");
    for (n, (user, offset)) in marks.enumerate() {
        text.push_str(if n > 0 { ",\"" } else { "\"" });
        escape(&mut text, user);
        let _ = write!(text, "\":{offset}");
    }
    text.push_str("}}");
    text
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
}

/// Reads `{"read":N}` or `{"user":"U","read":N}`, compact JSON that has been checked.
pub fn parse(data: &str) -> Option<Reading> {
    let mut rest = data.strip_prefix('{')?.strip_suffix('}')?;
    let (mut user, mut offset) = (None, None);
    loop {
        if let Some(number) = rest.strip_prefix("\"read\":") {
            let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
            let (digits, after) = number.split_at_checked(end)?;
            let value = digits.parse().ok().filter(|n| *n <= limits::READ_OFFSET_MAX)?;
            if offset.replace(value).is_some() {
                return None;
            }
            rest = after;
        } else {
            let (text, after) = string(rest.strip_prefix("\"user\":\"")?)?;
            if text.is_empty()
                || text.len() > limits::USER_ID_BYTES_MAX
                || user.replace(text).is_some()
            {
                return None;
            }
            rest = after;
        }
        if rest.is_empty() {
            return Some(Reading { user, offset: offset? });
        }
        rest = rest.strip_prefix(',')?;
    }
}

/// A JSON string from behind its opening quote, and what follows its closing one.
fn string(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((out, chars.as_str())),
            '\\' => out.push(match chars.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => unicode(&mut chars)?,
                c @ ('"' | '\\' | '/') => c,
                _ => return None,
            }),
            c => out.push(c),
        }
    }
}

/// What follows `\u`; a pair of surrogates is one character.
fn unicode(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let hex4 = |chars: &mut std::str::Chars<'_>| {
        (0..4).try_fold(0, |value, _| Some(value * 16 + chars.next()?.to_digit(16)?))
    };
    let high = hex4(chars)?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high);
    }
    let pair = chars.next()? == '\\' && chars.next()? == 'u';
    let low = hex4(chars).filter(|low| pair && (0xdc00..0xe000).contains(low))?;
    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn user(n: usize) -> Arc<str> {
        format!("u{n}").into()
    }

    /// A subscriber that merges what it is told: marks by user, or `read_by`.
    #[derive(Default)]
    struct Reader {
        marks: HashMap<String, u64>,
        steps: Vec<(u64, u32)>,
        pushes: usize,
    }

    impl Reader {
        fn hear(&mut self, text: &str) {
            self.pushes += 1;
            if let Some(list) = text.strip_prefix("{\"receipts\":{\"") {
                for entry in list.trim_end_matches('}').split(",\"") {
                    let (user, offset) = entry.split_once("\":").unwrap();
                    let known = self.marks.entry(user.to_owned()).or_default();
                    *known = (*known).max(offset.parse().unwrap());
                }
                return;
            }
            let list = text.strip_prefix("{\"read_by\":[").unwrap().split(']').next().unwrap();
            let numbers = list.split(|c: char| !c.is_ascii_digit()).filter(|t| !t.is_empty());
            let numbers: Vec<u64> = numbers.map(|t| t.parse().unwrap()).collect();
            self.steps = numbers.chunks(2).map(|c| (c[0], c[1] as u32)).collect();
        }
    }

    #[test]
    fn marks_rise_and_are_told_together() {
        let mut m = Marks::new(1);
        assert_eq!((m.snapshot("u1"), m.take()), (None, None));
        for (n, offset, want) in [(1, 5, Noted::Risen), (1, 4, Noted::Old), (1, 5, Noted::Old)] {
            assert_eq!(m.note(&user(n), offset, 0, 1_000), want, "{offset}");
        }
        m.note(&user(2), 3, 0, 1_000);
        m.note(&user(1), 9, 0, 1_000);
        m.plan(500);
        m.plan(900);
        assert_eq!(m.push_ms(), 500);
        assert_eq!(m.take().as_deref(), Some(r#"{"receipts":{"u1":9,"u2":3}}"#));
        assert_eq!((m.push_ms(), m.take()), (u64::MAX, None));
        m.note(&"a\"\\\n".into(), 1, 0, 1_000);
        assert_eq!(m.take().as_deref(), Some(r#"{"receipts":{"a\"\\\u000a":1}}"#));
    }

    #[test]
    fn many_readers_are_counted() {
        let mut m = Marks::new(1);
        let most = limits::READERS_NAMED_MAX;
        for n in 0..most {
            m.note(&user(n), 10, 0, 1_000);
        }
        assert!(m.take().is_some_and(|t| t.starts_with("{\"receipts\"")));
        m.note(&user(most), 12, 10, 1_000);
        let text = format!(
            r#"{{"read_by":[{{"offset":12,"users":1}},{{"offset":10,"users":{n}}}],"readers":{n}"#,
            n = most + 1
        );
        assert_eq!(m.take().unwrap(), format!("{text}}}").into());
        assert_eq!(m.snapshot("u0").unwrap(), format!("{text},\"read\":10}}").into());
        assert_eq!(m.snapshot("stranger").unwrap(), format!("{text}}}").into());
        // All but one are forgotten: names again, all of them.
        m.note(&user(0), 11, 500, 1_000);
        assert_eq!(m.expire(1_000), most - 1);
        m.note(&user(0), 13, 1_001, 1_000);
        let text = m.take().unwrap();
        assert!(text.contains("\"u20\":12") && text.contains("\"u0\":13"), "{text}");
        assert_eq!(m.expire(1_001), 0, "looked at a moment ago");
        assert_eq!(m.expire(100_000), 2);
        assert!(m.is_empty() && m.by_offset.is_empty() && m.snapshot("u0").is_none());
    }

    #[test]
    fn readers_have_a_bound() {
        let mut m = Marks::new(1);
        let most = limits::READERS_PER_CHANNEL_MAX;
        (0..most).for_each(|n| assert_eq!(m.note(&user(n), 1, 0, 9), Noted::Risen));
        assert_eq!(m.note(&user(most), 1, 0, 9), Noted::Full);
        assert_eq!(m.note(&user(0), 2, 0, 9), Noted::Risen);
        assert!(m.snapshot("u0").is_some_and(|t| t.len() < 1_000), "and so has what is told");
    }

    #[test]
    fn readings() {
        let of = |user: &str, offset| Some(Reading { user: Some(user.into()), offset });
        for (data, want) in [
            (r#"{"read":7}"#, Some(Reading { user: None, offset: 7 })),
            (r#"{"read":9007199254740991}"#, Some(Reading { user: None, offset: (1 << 53) - 1 })),
            (r#"{"user":"a","read":0}"#, of("a", 0)),
            (r#"{"read":1,"user":"\"\\\u00e9\ud83d\ude00,}"}"#, of("\"\\é😀,}", 1)),
            (r#"{"read":9007199254740992}"#, None),
            (r#"{"read":-1}"#, None),
            (r#"{"read":1.5}"#, None),
            (r#"{"read":1e3}"#, None),
            (r#"{"read":"7"}"#, None),
            (r#"{"read":99999999999999999999}"#, None),
            (r#"{"read":1,"read":2}"#, None),
            (r#"{"read":1,"more":2}"#, None),
            (r#"{"user":"a"}"#, None),
            (r#"{"user":"","read":1}"#, None),
            (r#"{"user":7,"read":1}"#, None),
            (r#"{"user":"\ud83d","read":1}"#, None),
            ("{}", None),
            ("7", None),
            ("[7]", None),
            ("null", None),
            ("{", None),
            (r#"{"read":1,}"#, None),
        ] {
            assert_eq!(parse(data), want, "{data}");
        }
        let long = "x".repeat(limits::USER_ID_BYTES_MAX + 1);
        assert_eq!(parse(&format!(r#"{{"user":"{long}","read":1}}"#)), None);
    }

    proptest! {
        /// No text ends the process, and what is escaped is read as it was.
        #[test]
        fn any_text_is_read_or_not(text in ".*", user in "\\PC{1,60}", offset in 0u64..1 << 53) {
            let _ = (parse(&text), parse(&format!("{{{text}}}")), string(&text));
            let mut escaped = String::new();
            escape(&mut escaped, &user);
            let read = parse(&format!("{{\"read\":{offset},\"user\":\"{escaped}\"}}"));
            prop_assert_eq!(read, Some(Reading { user: Some(user), offset }));
        }

        /// Whatever is read in whatever order: the mark is the highest of each user, it is told
        /// within an interval of the last one, and never more often than once an interval.
        #[test]
        fn a_subscriber_ends_with_the_highest_marks(
            readers in 1usize..30,
            reads in prop::collection::vec((0usize..30, 0u64..50, 0u64..400), 1..200),
        ) {
            let mut m = Marks::new(3);
            let mut truth: HashMap<String, u64> = HashMap::new();
            let mut reader = Reader::default();
            let (mut now_ms, start_ms) = (1_000, 1_000);
            let tell = |m: &mut Marks, reader: &mut Reader, now_ms: u64| {
                if m.push_ms() <= now_ms && let Some(text) = m.take() {
                    reader.hear(&text);
                }
            };
            for (n, offset, ms) in reads {
                now_ms += ms;
                tell(&mut m, &mut reader, now_ms);
                let user = user(n % readers);
                let before = truth.get(&*user).copied();
                let risen = before.is_none_or(|b| offset > b);
                let noted = m.note(&user, offset, now_ms, 1 << 40);
                prop_assert_eq!(noted == Noted::Risen, risen);
                truth.insert(user.to_string(), before.map_or(offset, |b| b.max(offset)));
                m.plan(now_ms + 1_000);
            }
            now_ms += 1_000;
            tell(&mut m, &mut reader, now_ms);
            prop_assert!(!m.owes(), "all is told after an interval of quiet");
            prop_assert!(reader.pushes as u64 <= (now_ms - start_ms) / 1_000);
            if truth.len() <= limits::READERS_NAMED_MAX {
                prop_assert_eq!(&reader.marks, &truth);
            } else {
                for (offset, users) in reader.steps {
                    let there = truth.values().filter(|o| **o >= offset).count();
                    prop_assert_eq!(there, users as usize, "at {}", offset);
                }
            }
            let mut newcomer = Reader::default();
            newcomer.hear(&m.snapshot("u0").unwrap());
            prop_assert!(truth.len() > limits::READERS_NAMED_MAX || newcomer.marks == truth);
        }
    }
}
