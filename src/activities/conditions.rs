//! What must be so on a site for something to count. It is looked at in the transaction that records the thing, so that it counts by
//! what the site and its members have said before.

use std::borrow::Cow;

use entity::id::Timestamp;
use entity::item;

use super::{Fate, Sighting, Understood};
use crate::sites::config::Configs;

/// What must be so on the site for something to count; otherwise nothing comes of it.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// The site must track one of these hashtags, folded.
    pub hashtags: Option<Vec<String>>,
    /// A member who has claimed the handle by the time the thing came must have done so not later than this. Otherwise it does not count, or
    /// waits for somebody else if that is not proven.
    pub claimed_until: Option<Timestamp>,
}

/// Something with its fate on its site.
pub(super) type Fated<'a> = (&'a item::Model, Cow<'a, Fate>);

/// What becomes of something on its site, with the hashtags that are tracked there.
pub(super) fn on_site<'a>(configs: &Configs, (item, fate): &'a Understood) -> Fated<'a> {
    let is_tracked = |sighting: &Sighting| {
        let Some(wanted) = &sighting.conditions.hashtags else { return true };
        let config = configs.get(&sighting.site);
        config.is_some_and(|config| wanted.iter().any(|tag| config.hashtags.contains(tag)))
    };
    match fate.sighting().filter(|sighting| !is_tracked(sighting)) {
        None => (item, Cow::Borrowed(fate)),
        Some(sighting) => {
            let (site, reason) = (Some(sighting.site), "no tracked hashtag is in it".to_owned());
            (item, Cow::Owned(Fate::Ignored { site, reason }))
        }
    }
}

/// Those of `fated` that were seen.
pub(super) fn sightings<'a>(fated: &'a [Fated<'a>]) -> impl Iterator<Item = (&'a item::Model, &'a Sighting)> {
    fated.iter().filter_map(|(item, fate)| Some((*item, fate.sighting()?)))
}
