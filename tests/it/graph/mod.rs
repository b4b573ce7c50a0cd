//! What Instagram's things mean, looked up at a stand-in for the Graph API.

mod calls;
mod direct_replies;
mod errors;
mod limits;
mod meanings;
mod noise;
mod replies;
mod samples;
mod stage;
mod tags;
