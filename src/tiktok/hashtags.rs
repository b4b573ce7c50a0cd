//! Hashtags in captions, in every script: what ends one, and how two are compared.
//!
//! A hashtag is `#` or the full-width `＃`, a letter, digit or `_`, and every word character after it: letters, digits, marks, `_` and
//! joiners. So punctuation, spaces and emoji end it. Compared are composed lower-case forms without joiners.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// Characters of a hashtag, without the `#`.
pub const HASHTAG_MAX: usize = 100;
/// Hashtags that are looked at in a caption.
pub const PER_CAPTION_MAX: usize = 200;

/// The hashtags of `caption` as they are compared, each once, in their order.
#[must_use]
pub fn extract(caption: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut rest = caption;
    while let Some(at) = rest.find(is_hash) {
        // `&#39;` is an apostrophe, and `…/#part` a part of a page.
        let is_other = rest[..at].ends_with(['&', '/']);
        rest = rest[at..].trim_start_matches(is_hash);
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if let Some(tag) = folded(word).filter(|tag| !is_other && !found.contains(tag)) {
            found.push(tag);
        }
        if found.len() == PER_CAPTION_MAX {
            break;
        }
    }
    found
}

/// `text`, with or without `#`, as hashtags are compared; `None` if it is none.
#[must_use]
pub fn fold(text: &str) -> Option<String> {
    let text = text.trim();
    let word = text.strip_prefix(is_hash).unwrap_or(text);
    if word.chars().all(is_word) { folded(word) } else { None }
}

fn folded(word: &str) -> Option<String> {
    // A mark needs something to stand on, and joiners join nothing at the beginning.
    let starts_well = word.chars().next().is_some_and(|c| is_letter(c) || c == '_');
    let composed: String = word.nfc().filter(|c| !is_joiner(*c)).collect();
    // What lower case leaves apart: the two forms of sigma.
    let tag: String = composed.to_lowercase().replace('ς', "σ").nfc().collect();
    (starts_well && tag.chars().count() <= HASHTAG_MAX).then_some(tag)
}

fn is_hash(c: char) -> bool {
    matches!(c, '#' | '＃' | '﹟')
}

fn is_word(c: char) -> bool {
    is_letter(c) || c == '_' || is_joiner(c) || (is_combining_mark(c) && !is_of_emoji(c))
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() && !is_of_emoji(c)
}

const fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Marks that make emoji of other characters, and letters in squares and circles, which are drawn as emoji.
const fn is_of_emoji(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{20d0}'..='\u{20ff}' | '\u{24b6}'..='\u{24e9}' | '\u{1f100}'..='\u{1f1ff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashtags_are_found_in_every_script() {
        for (caption, tags) in [
            ("Cortado after 21k #NordbrewCoffee #oslo", vec!["nordbrewcoffee", "oslo"]),
            ("#a#b##c", vec!["a", "b", "c"]),
            ("#coffee, #coffee! (#Coffee) #coffee…", vec!["coffee"]),
            ("#nord_brew_ #_x #2024", vec!["nord_brew_", "_x", "2024"]),
            ("＃珈琲 と #コーヒー、今日は#朝活。", vec!["珈琲", "コーヒー", "朝活"]),
            ("#КОФЕ #ΚΑΦΈΣ #καφές", vec!["кофе", "καφέσ"]),
            ("#قهوة #می\u{200c}خواهم", vec!["قهوة", "میخواهم"]),
            ("#कॉफ़ी #กาแฟร้อน #커피", vec!["कॉफ़ी", "กาแฟร้อน", "커피"]),
            ("#café #cafe\u{301} #CAFÉ", vec!["café"]),
            ("#coffee☕️ #☕coffee #tea🍵time #1\u{fe0f}\u{20e3} #brew🅰", vec!["coffee", "tea", "1", "brew"]),
            ("it&#39;s https://nordbrew.coffee/#beans # #", vec![]),
            ("no tag here", vec![]),
            ("#\u{301}x #\u{200d}x", vec![]),
        ] {
            let tags: Vec<String> = tags.into_iter().map(|tag: &str| tag.nfc().collect()).collect();
            assert_eq!(extract(caption), tags, "{caption}");
        }
    }

    #[test]
    fn a_tracked_hashtag_is_one_whole_word() {
        assert_eq!(fold("#NordbrewCoffee").as_deref(), Some("nordbrewcoffee"));
        assert_eq!(fold(" ＃Nordbrew ").as_deref(), Some("nordbrew"));
        assert_eq!(fold("nordbrew").as_deref(), Some("nordbrew"));
        for text in ["", "#", "##x", "two words", "#a#b", "x!", "☕", "\u{0}", "#a\u{0}b"] {
            assert_eq!(fold(text), None, "{text:?}");
        }
        assert!(fold(&"x".repeat(HASHTAG_MAX)).is_some());
        assert_eq!(fold(&"x".repeat(HASHTAG_MAX + 1)), None);
    }

    #[test]
    fn a_caption_of_hashes_costs_little() {
        assert_eq!(extract(&"#".repeat(100_000)), Vec::<String>::new());
        let many = (0..10_000).map(|n| format!("#t{n}")).collect::<Vec<_>>().concat();
        assert_eq!(extract(&many).len(), PER_CAPTION_MAX);
    }
}
