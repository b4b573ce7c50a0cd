//! What platforms tell becomes proof, follows, activities and points: once, whatever is repeated, mixed up or cut off.

mod chance;
mod follows;
mod forgetting;
mod messages;
mod rewards;
mod stage;
