//! What is known of members on social platforms: the handles that they claim, the proof of them, and the attributes that platforms tell.
//!
//! A member writes `instagramHandle` and `tiktokHandle`; everything else is written by platforms only. Absent stays absent: what a
//! platform did not say is never 0, false or empty.

pub mod attributes;
pub mod handles;
pub mod link_codes;
