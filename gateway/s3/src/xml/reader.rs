//! Reads request documents into a tree, under limits that hold before anything is believed.
//!
//! In: a body. Out: the root element, or `MalformedXML`. Document types, processing instructions and
//! entities other than XML's own five and numeric references are refused; depth, elements and bytes
//! are limited; nothing recurses on input. Numeric references may name any character, since S3 clients
//! write keys such as `&#x1;` that XML 1.0 has no legal way to write.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::error::{S3Error, S3ErrorCode};

/// No S3 request document is deeper than 8.
const DEPTH_MAX: usize = 16;

/// 10,000 parts with all their elements, and room.
const ELEMENTS_MAX: usize = 100_000;

/// Attributes of one element; S3 documents use two.
const ATTRIBUTES_MAX: usize = 16;

/// An element with its text and children. Namespace prefixes are dropped: S3 takes any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// The local name.
    pub name: String,
    /// All character data directly in it.
    pub text: String,
    /// Its child elements, in order.
    pub children: Vec<Element>,
}

impl Element {
    /// The first child of a name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of a name.
    pub fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// The text of a child that must be there.
    pub fn required(&self, name: &str) -> Result<&str, S3Error> {
        self.child_text(name).ok_or(S3Error::new(S3ErrorCode::MalformedXML))
    }
}

/// Reads a document of at most `bytes_max` bytes whose root has this name.
pub fn read(body: &[u8], root: &str, bytes_max: usize) -> Result<Element, S3Error> {
    if body.len() > bytes_max {
        return Err(S3Error::new(S3ErrorCode::MaxMessageLengthExceeded)
            .field("MaxMessageLengthBytes", bytes_max.to_string()));
    }
    if body.is_empty() {
        return Err(S3Error::new(S3ErrorCode::MissingRequestBodyError));
    }
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    let element = Tree::default().read(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    if element.name == root { Ok(element) } else { Err(malformed()) }
}

fn malformed() -> S3Error {
    S3Error::new(S3ErrorCode::MalformedXML)
}

#[derive(Default)]
struct Tree {
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Tree {
    fn read(mut self, text: &str) -> Result<Element, S3Error> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().enable_all_checks(true);
        loop {
            match reader.read_event().map_err(|_| malformed())? {
                Event::Start(start) => self.start(&start)?,
                Event::Empty(start) => {
                    self.start(&start)?;
                    self.end()?;
                }
                Event::End(_) => self.end()?,
                Event::Text(text) => self.characters(&text.xml10_content())?,
                Event::CData(text) => self.characters(&text.xml10_content())?,
                Event::GeneralRef(reference) => {
                    let character = resolve(&reference).ok_or_else(malformed)?;
                    self.characters(character.encode_utf8(&mut [0; 4]))?;
                }
                Event::Comment(_) | Event::Decl(_) => {}
                Event::PI(_) | Event::DocType(_) => return Err(malformed()),
                Event::Eof => break,
            }
        }
        if self.open.is_empty() { self.root.ok_or_else(malformed) } else { Err(malformed()) }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), S3Error> {
        self.elements += 1;
        let second_root = self.open.is_empty() && self.root.is_some();
        if self.open.len() == DEPTH_MAX || self.elements > ELEMENTS_MAX || second_root {
            return Err(malformed());
        }
        for (number, attribute) in start.attributes().enumerate() {
            if number == ATTRIBUTES_MAX || attribute.is_err() {
                return Err(malformed());
            }
        }
        let name = start.local_name();
        self.open
            .push(Element { name: AsRef::<str>::as_ref(&name).to_owned(), ..Element::default() });
        Ok(())
    }

    fn end(&mut self) -> Result<(), S3Error> {
        let element = self.open.pop().ok_or_else(malformed)?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn characters(&mut self, text: &str) -> Result<(), S3Error> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(malformed()),
        }
        Ok(())
    }
}

/// The character that `&reference;` stands for.
fn resolve(reference: &str) -> Option<char> {
    let code = match reference {
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "amp" => return Some('&'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        _ => reference.strip_prefix('#')?,
    };
    let (digits, radix) = match code.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (code, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    char::from_u32(u32::from_str_radix(digits, radix).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::writer::XmlWriter;
    use proptest::prelude::*;

    fn code(body: &str) -> Option<S3ErrorCode> {
        read(body.as_bytes(), "A", 1 << 20).err().map(|error| error.code)
    }

    #[test]
    fn reads_trees() {
        let body = "<?xml version=\"1.0\"?>\n<!-- c --><n:A xmlns:n=\"u\"> <B>x&amp;&#x1;&#13;<![CDATA[<]]></B><C/></n:A>\n";
        let root = read(body.as_bytes(), "A", 1 << 20).expect("a tree");
        assert_eq!(root.child_text("B"), Some("x&\u{1}\r<"));
        assert_eq!(root.child_text("C"), Some(""));
        assert_eq!(root.child("D"), None);
    }

    #[test]
    fn refuses_what_is_dangerous_or_broken() {
        let deep = format!("{}{}", "<A>".repeat(17), "</A>".repeat(17));
        let wide = format!("<A>{}</A>", "<B/>".repeat(100_000));
        for body in [
            "<A>",
            "</A>",
            "<A></B>",
            "<B/>",
            "<A/><A/>",
            "<A/>x",
            "x<A/>",
            "x",
            "<A>&lol;</A>",
            "<A>&#x110000;</A>",
            "<A>&#xd800;</A>",
            "<A>&</A>",
            "<A>&#+1;</A>",
            "<!DOCTYPE A><A/>",
            "<!DOCTYPE A [<!ENTITY x \"y\">]><A>&x;</A>",
            "<?php x?><A/>",
            "<A b/>",
            "<A b=\"1\" b=\"2\"/>",
            "<A><!-- -- --></A>",
            deep.as_str(),
            wide.as_str(),
        ] {
            let shown: String = body.chars().take(60).collect();
            assert_eq!(code(body), Some(S3ErrorCode::MalformedXML), "{shown}");
        }
        assert_eq!(
            read(b"<A>\xff</A>", "A", 99).expect_err("utf-8").code,
            S3ErrorCode::MalformedXML
        );
        assert_eq!(code(""), Some(S3ErrorCode::MissingRequestBodyError));
        assert_eq!(
            code(&format!("<A>{}</A>", "x".repeat(1 << 20))),
            Some(S3ErrorCode::MaxMessageLengthExceeded)
        );
    }

    proptest! {
        #[test]
        fn any_text_survives_the_round_trip(text: String) {
            let mut xml = XmlWriter::new();
            xml.open("A");
            xml.text("B", &text);
            xml.close("A");
            let root = read(&xml.finish(), "A", 1 << 20).expect("our own document");
            prop_assert_eq!(root.child_text("B"), Some(text.as_str()));
        }

        #[test]
        fn no_body_panics(body: Vec<u8>) {
            let _ = read(&body, "A", 1 << 20);
        }

        #[test]
        fn no_markup_panics(body in "[<>/A&#x!\\[\\]CDAT\"= ;?-]{0,60}") {
            let _ = read(body.as_bytes(), "A", 1 << 20);
        }
    }
}
