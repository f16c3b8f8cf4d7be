//! Text that comes from outside and is stored or shown.

/// Characters that turn the direction of the text around them, so that a screen shows another text than
/// the one that is there.
const BIDIRECTIONAL: [std::ops::RangeInclusive<char>; 3] =
    ['\u{200e}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];

/// The text without control characters, trimmed, and cut after `max_chars` characters. `None` if nothing
/// is left.
pub(crate) fn clean(text: &str, max_chars: usize) -> Option<String> {
    let is_harmless = |character: &char| {
        !character.is_control() && !BIDIRECTIONAL.iter().any(|range| range.contains(character))
    };
    let harmless: String = text.chars().filter(is_harmless).collect();
    let cut: String = harmless.trim().chars().take(max_chars).collect();
    (!cut.is_empty()).then_some(cut)
}

/// Whether the text is what [`clean`] would leave of it.
pub(crate) fn is_clean(text: &str, max_chars: usize) -> bool {
    clean(text, max_chars).as_deref() == Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_go_and_the_rest_stays() {
        assert_eq!(clean(" fully\r\n booked\u{0} \u{202e}", 100).as_deref(), Some("fully booked"));
        assert_eq!(clean("Zürich – 予約", 100).as_deref(), Some("Zürich – 予約"));
    }

    #[test]
    fn length_is_in_characters() {
        assert_eq!(clean("äöü", 2).as_deref(), Some("äö"));
    }

    #[test]
    fn nothing_is_none() {
        assert_eq!(clean("\u{7} \n", 100), None);
    }

    #[test]
    fn clean_text_is_told_from_other() {
        assert!(is_clean("room 1", 6));
        for text in ["", " room", "room 1", "ro\nom"] {
            assert!(!is_clean(text, 5), "{text:?}");
        }
    }
}
