//! What the demo shows: plain text, with colours on a terminal.

use std::io::{IsTerminal as _, Stdout, Write as _};

use super::receiver::{Arrival, Webhook};

const GREEN: &str = "32";
const RED: &str = "1;31";
const BOLD: &str = "1";
const FAINT: &str = "2";

/// Characters of a key id that tell keys apart.
const KEY_ID_CHARS: usize = 8;

/// Standard output.
pub(super) struct Screen {
    out: Stdout,
    has_colours: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let out = std::io::stdout();
        Self { has_colours: out.is_terminal() && !is_plain, out }
    }

    /// Prints a line. Whether anybody still reads it makes no difference to the demo, so `| head` does not end it.
    pub(super) fn line(&self, text: &str) {
        let _ = writeln!(&self.out, "{text}");
    }

    pub(super) fn heading(&self, text: &str) {
        self.line(&self.paint(BOLD, text));
    }

    pub(super) fn faint(&self, text: &str) {
        self.line(&self.paint(FAINT, text));
    }

    pub(super) fn fact(&self, name: &str, value: &str) {
        self.line(&format!("  {}  {value}", self.paint(FAINT, &format!("{name:<9}"))));
    }

    pub(super) fn good(&self, text: &str) -> String {
        self.paint(GREEN, text)
    }

    pub(super) fn bad(&self, text: &str) -> String {
        self.paint(RED, text)
    }

    pub(super) fn arrival(&self, arrival: &Arrival) {
        match arrival {
            Arrival::Verified(webhook) => self.line(&format!("webhook  {}", self.webhook(webhook))),
            Arrival::Refused(reason) => {
                let refused = self.bad("NOT VERIFIED, REFUSED");
                self.line(&format!("webhook  {refused}: {reason}"));
            }
        }
    }

    /// A verified webhook in one line.
    pub(super) fn webhook(&self, webhook: &Webhook) -> String {
        let key_id: String = webhook.key_id.chars().take(KEY_ID_CHARS).collect();
        let verified = self.good("verified");
        format!("{:<51}  {verified} (RS256, kid {key_id}…)  {}", webhook.event_type, summary(webhook))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.has_colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What matters most of the entity.
fn summary(webhook: &Webhook) -> String {
    let entity = &webhook.entity;
    if let Some(balance) = entity.pointer("/points/balance") {
        format!("balance {balance}")
    } else if let Some(channel) = entity["channel"].as_str() {
        format!("follows {channel}")
    } else if let (Some(kind), Some(outcome)) = (entity["type"].as_str(), entity["outcome"].as_str()) {
        format!("{kind} {outcome}")
    } else {
        entity["message"].as_str().unwrap_or_default().to_owned()
    }
}
