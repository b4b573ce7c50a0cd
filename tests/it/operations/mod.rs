//! What machines and browsers need beside the API itself.

mod browsers;
mod health;
mod limits;
mod pressure;
mod sources;
mod upkeep;
