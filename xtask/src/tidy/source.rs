//! A Rust source with everything blanked out that could be mistaken for code.

/// The same text with comments, strings and characters turned into spaces. Lines stay where
/// they were. Good enough to count braces, which is all that is asked of it.
pub fn blank(source: &str) -> String {
    let mut text = Blanker { input: source.chars().collect(), at: 0, output: String::new() };
    while text.at < text.input.len() {
        text.step();
    }
    text.output
}

struct Blanker {
    input: Vec<char>,
    at: usize,
    output: String,
}

impl Blanker {
    fn peek(&self, ahead: usize) -> char {
        self.input.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn keep(&mut self) {
        self.output.push(self.peek(0));
        self.at += 1;
    }

    fn hide(&mut self, count: usize) {
        for _ in 0..count {
            if self.at < self.input.len() {
                self.output.push(if self.peek(0) == '\n' { '\n' } else { ' ' });
                self.at += 1;
            }
        }
    }

    fn after_word(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|i| self.input.get(i));
        before.is_some_and(|c| c.is_alphanumeric() || *c == '_')
    }

    fn step(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => {
                while self.at < self.input.len() && self.peek(0) != '\n' {
                    self.hide(1);
                }
            }
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(),
            ('r', '"' | '#') if !self.after_word() => self.raw_string(1),
            ('b', 'r') if !self.after_word() && matches!(self.peek(2), '"' | '#') => {
                self.raw_string(2);
            }
            ('\'', _) => self.character(),
            _ => self.keep(),
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.input.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => {
                    depth += 1;
                    self.hide(2);
                }
                ('*', '/') => {
                    depth -= 1;
                    self.hide(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.hide(1),
            }
        }
    }

    fn string(&mut self) {
        self.hide(1);
        while self.at < self.input.len() {
            match self.peek(0) {
                '\\' => self.hide(2),
                '"' => return self.hide(1),
                _ => self.hide(1),
            }
        }
    }

    fn raw_string(&mut self, prefix: usize) {
        let mut hashes = 0;
        while self.peek(prefix + hashes) == '#' {
            hashes += 1;
        }
        // `r#name` is an identifier.
        if self.peek(prefix + hashes) != '"' {
            return self.keep();
        }
        self.hide(prefix + hashes + 1);
        while self.at < self.input.len() {
            if self.peek(0) == '"' && (1..=hashes).all(|i| self.peek(i) == '#') {
                return self.hide(1 + hashes);
            }
            self.hide(1);
        }
    }

    fn character(&mut self) {
        if self.peek(1) == '\\' {
            self.hide(3);
            while self.at < self.input.len() && self.peek(0) != '\'' {
                self.hide(1);
            }
            self.hide(1);
        } else if self.peek(2) == '\'' {
            self.hide(3);
        } else {
            // A lifetime or a label.
            self.keep();
        }
    }
}

/// A function that has a body: name, line (from 1), and lines from `fn` to the closing brace.
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// The functions of a text made by `blank`.
pub fn functions(blanked: &str) -> Vec<Function> {
    let text: Vec<char> = blanked.chars().collect();
    let mut found = Vec::new();
    let mut line = 1;
    for at in 0..text.len() {
        if text[at] == '\n' {
            line += 1;
        }
        if !is_word(&text, at, "fn") {
            continue;
        }
        let name: String = text[at + 2..]
            .iter()
            .skip_while(|c| c.is_whitespace())
            .take_while(|c| c.is_alphanumeric() || **c == '_')
            .collect();
        // Without a name it is a function pointer's type, or a macro's template.
        if name.is_empty() {
            continue;
        }
        if let Some(lines) = body_lines(&text[at..]) {
            found.push(Function { name, line, lines });
        }
    }
    found
}

fn is_word(text: &[char], at: usize, word: &str) -> bool {
    let inside = |i: usize| text.get(i).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    word.chars().enumerate().all(|(i, c)| text.get(at + i) == Some(&c))
        && !inside(at + word.len())
        && (at == 0 || !inside(at - 1))
}

fn body_lines(text: &[char]) -> Option<usize> {
    let (mut lines, mut braces, mut others) = (1, 0, 0);
    for c in text {
        match c {
            '\n' => lines += 1,
            '(' | '[' => others += 1,
            ')' | ']' => others -= 1,
            ';' if braces == 0 && others == 0 => return None,
            '{' => braces += 1,
            '}' if braces == 1 => return Some(lines),
            '}' => braces -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expect: &[(&str, usize, usize)]) {
        let found = functions(&blank(source));
        let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(found, expect, "in {source:?}");
    }

    #[test]
    fn functions_are_found_and_measured() {
        check("fn a() {}", &[("a", 1, 1)]);
        check("\nfn a() {\n  b();\n}\n", &[("a", 2, 3)]);
        check("trait T { fn a(&self) -> [u8; 4]; fn b() { } }", &[("b", 1, 1)]);
        check("fn a() {\n fn b() {\n }\n}", &[("a", 1, 4), ("b", 2, 2)]);
        check("type F = fn(u8) -> u8; const fn g(f: fn()) {}", &[("g", 1, 1)]);
    }

    #[test]
    fn braces_in_texts_do_not_count() {
        check("fn a() {\n \"}\";\n '}';\n '\\'';\n}", &[("a", 1, 5)]);
        check("fn a() {\n r#\"}\"}\"#;\n b\"}\";\n br\"}\";\n}", &[("a", 1, 5)]);
        check("fn a<'x>(s: &'x str) {\n // }\n /* } /* } */ } */\n}", &[("a", 1, 4)]);
        check("// fn no() {}\nfn a(r#type: u8) {\n \"\\\\\";\n}", &[("a", 2, 3)]);
    }
}
