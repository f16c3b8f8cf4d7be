//! Text that comes from outside: which characters it may have, wherever it comes from.
//!
//! Text is kept and compared as it was sent, code point by code point: nothing is normalised, so that what a caller
//! sends is what it gets back, and two spellings that look alike are two texts.

use std::ops::RangeInclusive;

/// Characters that turn the direction of the text around them, so that a screen shows another text than the one that
/// is there (Unicode Standard Annex 9: embeddings, overrides and isolates).
const TURNS_DIRECTION: [RangeInclusive<char>; 2] = ['\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];

/// Characters that are not seen. People's names and words may need some of them (joiners, direction marks); a name
/// for a thing does not, and two that differ in one look the same.
const UNSEEN: [RangeInclusive<char>; 10] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{feff}'..='\u{feff}',
    '\u{e0000}'..='\u{e007f}',
];

/// What ends a line, besides the control characters.
const ENDS_LINE: RangeInclusive<char> = '\u{2028}'..='\u{2029}';

/// What a text is for, which decides what it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// Names a thing: a location, a reference, a code.
    Name,
    /// One line, for people.
    Line,
    /// Lines, for people.
    Lines,
}

fn is_in(ranges: &[RangeInclusive<char>], character: char) -> bool {
    ranges.iter().any(|range| range.contains(&character))
}

/// Whether a character turns the direction of the text around it.
pub fn turns_direction(character: char) -> bool {
    is_in(&TURNS_DIRECTION, character)
}

/// Whether a character is not seen, although it is no control character.
pub fn is_unseen(character: char) -> bool {
    is_in(&UNSEEN, character) || turns_direction(character) || ENDS_LINE.contains(&character)
}

/// What is wrong with the characters of a text, if anything is; it goes on a sentence that begins with the field's
/// name, and repeats nothing.
pub fn judge_characters(text: &str, kind: TextKind) -> Result<(), &'static str> {
    let breaks = |character| kind == TextKind::Lines && matches!(character, '\n' | '\r' | '\t');
    if text.chars().any(|character| character.is_control() && !breaks(character)) {
        return Err(match kind {
            TextKind::Lines => "must not have control characters other than line breaks and tabs",
            TextKind::Name | TextKind::Line => "must not have control characters",
        });
    }
    if text.chars().any(turns_direction) {
        return Err("must not have characters that turn the direction of text");
    }
    if kind != TextKind::Lines && text.chars().any(|character| ENDS_LINE.contains(&character)) {
        return Err("must not have line breaks");
    }
    if kind == TextKind::Name && text.chars().any(is_unseen) {
        return Err("must not have characters that are not seen");
    }
    Ok(())
}

/// What is wrong with a text that has to say something, if anything is.
pub(crate) fn judge_text(text: &str, kind: TextKind, most_chars: usize) -> Result<(), String> {
    let chars = text.chars().count();
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    if chars > most_chars {
        return Err(format!("has {chars} characters; at most {most_chars} are allowed"));
    }
    judge_characters(text, kind).map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_taken() {
        for text in
            ["Zürich – 予約", "Zoe\u{308}", "محمد", "שלום\u{200f}", "क्\u{200d}ष", "👩\u{200d}⚕️", "a\u{a0}b"]
        {
            assert_eq!(judge_characters(text, TextKind::Line), Ok(()), "{text:?}");
            assert_eq!(judge_characters(text, TextKind::Lines), Ok(()), "{text:?}");
        }
        assert_eq!(judge_characters("one\r\n\ttwo\u{2028}three", TextKind::Lines), Ok(()));
    }

    #[test]
    fn what_deceives_is_refused_everywhere() {
        for text in ["\0", "a\u{7f}", "\u{85}", "\u{1b}[2J", "a\u{202e}b", "\u{2066}a\u{2069}", "\u{202a}"] {
            for kind in [TextKind::Name, TextKind::Line, TextKind::Lines] {
                assert!(judge_characters(text, kind).is_err(), "{text:?} as {kind:?}");
            }
        }
    }

    #[test]
    fn lines_end_only_where_there_may_be_several() {
        for text in ["a\nb", "a\rb", "a\tb", "a\u{2028}b", "a\u{2029}b"] {
            assert!(judge_characters(text, TextKind::Line).is_err(), "{text:?}");
            assert!(judge_characters(text, TextKind::Lines).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_seen_names_nothing() {
        for text in
            ["a\u{200b}", "a\u{200d}b", "a\u{feff}", "a\u{ad}b", "\u{e0061}", "a\u{2060}b", "a\u{61c}"]
        {
            assert!(judge_characters(text, TextKind::Name).is_err(), "{text:?}");
            assert!(judge_characters(text, TextKind::Line).is_ok(), "{text:?}");
        }
        assert!(judge_characters("Zürich – 予約", TextKind::Name).is_ok());
    }
}
