//! Writes XML documents: a thin layer on quick-xml that escapes what XML 1.0 can't carry as S3 does.
//!
//! In: element names (ours, constant) and text (anybody's). Out: the document's bytes. Text is always
//! escaped; a control character becomes a numeric reference (`&#x1;`), which XML 1.0 parsers may
//! refuse but S3 clients know, and `\r` becomes `&#13;` since a parser would turn a raw one into `\n`.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

/// The namespace of every S3 document except `<Error>`.
pub const S3_NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// A document being written.
pub struct XmlWriter {
    inner: Writer<Vec<u8>>,
}

impl XmlWriter {
    /// Starts a document with the XML declaration.
    pub fn new() -> Self {
        let mut xml = XmlWriter { inner: Writer::new(Vec::with_capacity(512)) };
        xml.event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        xml.event(Event::Text(BytesText::from_escaped("\n")));
        xml
    }

    /// Opens an element.
    pub fn open(&mut self, name: &str) {
        self.event(Event::Start(BytesStart::new(name)));
    }

    /// Opens the document's root element, in the S3 namespace.
    pub fn open_root(&mut self, name: &str) {
        self.event(Event::Start(BytesStart::new(name).with_attributes([("xmlns", S3_NAMESPACE)])));
    }

    /// Opens an `xsi:type`d element, which only the ACL documents use.
    pub fn open_typed(&mut self, name: &str, xsi_type: &str) {
        let attributes =
            [("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"), ("xsi:type", xsi_type)];
        self.event(Event::Start(BytesStart::new(name).with_attributes(attributes)));
    }

    /// Closes an element.
    pub fn close(&mut self, name: &str) {
        self.event(Event::End(BytesEnd::new(name)));
    }

    /// Writes an element that holds only text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        self.characters(text);
        self.close(name);
    }

    /// Writes text into the element that is open.
    pub fn characters(&mut self, text: &str) {
        if !text.is_empty() {
            self.event(Event::Text(BytesText::from_escaped(escape(text))));
        }
    }

    /// Writes an element that holds text, if there is any.
    pub fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// Writes an element that holds a number.
    pub fn number(&mut self, name: &str, number: u64) {
        self.open(name);
        self.event(Event::Text(BytesText::from_escaped(number.to_string())));
        self.close(name);
    }

    /// Writes an element that holds `true` or `false`.
    pub fn flag(&mut self, name: &str, flag: bool) {
        self.text(name, if flag { "true" } else { "false" });
    }

    /// Ends the document.
    pub fn finish(self) -> Bytes {
        Bytes::from(self.inner.into_inner())
    }

    fn event(&mut self, event: Event<'_>) {
        // Writing to a Vec can't fail, so there is no error to hand on.
        let _infallible = self.inner.write_event(event);
    }
}

impl Default for XmlWriter {
    fn default() -> Self {
        XmlWriter::new()
    }
}

/// Escapes character data for element content.
pub fn escape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(needs_escape) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for character in text[first..].chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            character if needs_escape(character) => {
                let _infallible = write!(out, "&#x{:x};", u32::from(character));
            }
            character => out.push(character),
        }
    }
    Cow::Owned(out)
}

fn needs_escape(character: char) -> bool {
    matches!(
        character,
        '<' | '>' | '&' | '"' | '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_xml_cannot_carry() {
        let check = |text: &str, expected: &str| assert_eq!(escape(text), expected);
        check("plain/key", "plain/key");
        check("a&b<c>\"d\"'", "a&amp;b&lt;c&gt;&quot;d&quot;'");
        check("\u{1}x\u{1f}", "&#x1;x&#x1f;");
        check("tab\tline\nreturn\r", "tab\tline\nreturn&#13;");
        check("\u{fffe}é😀", "&#xfffe;é😀");
    }
}
