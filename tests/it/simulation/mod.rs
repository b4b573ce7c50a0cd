//! Random use against a model. Members, apps and keys follow and read; owners change settings, programs and subscriptions;
//! receivers fail, disappear and get well; the clock jumps; the service is stopped and killed and started again. After each
//! step every answer, every row and every webhook must be what the model says.
//!
//! A failure shows the seed and the last steps; `SEED=7 cargo test --test it simulation` plays that seed again.

mod check;
mod model;
mod outbox;
mod play;
mod receiver;
mod steps;
mod world;

use self::steps::Random;
use self::world::World;
use crate::support::{Backend, TestDatabase};

const SEEDS: [u64; 3] = [1, 2, 3];
const STEPS: usize = 150;
/// How many of the last steps a failure shows.
const STEPS_SHOWN: usize = 12;

/// What was done so far, shown when it ends badly.
struct Story {
    backend: Backend,
    seed: u64,
    steps: Vec<String>,
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = &self.steps[self.steps.len().saturating_sub(STEPS_SHOWN)..];
            println!("{:?}, SEED={}, the last steps:\n{}", self.backend, self.seed, last.join("\n"));
        }
    }
}

/// Plays `seed`; gives every call and its answer, or `None` where the database is not to be had.
async fn play(backend: Backend, seed: u64, repeatable: bool) -> Option<Vec<String>> {
    let mut world = World::set(TestDatabase::new(backend).await?).await;
    let mut random = Random::new(seed);
    let mut story = Story { backend, seed, steps: Vec::new() };
    for number in 0..STEPS {
        let step = steps::choose(&mut random, &world.model, world.receivers.moods(), repeatable);
        story.steps.push(format!("{number}: {step:?}"));
        world.take(&step).await;
    }
    story.steps.push("the end".to_owned());
    world.finish().await;
    world.stop().await;
    Some(world.transcript)
}

/// The seed that is asked for, or the usual ones.
fn seeds() -> Vec<u64> {
    std::env::var("SEED").map_or(SEEDS.to_vec(), |seed| vec![seed.parse().expect("SEED is a number")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_g2_g3_g4_g5_random_use_on_sqlite_is_what_the_model_says() {
    for seed in seeds() {
        play(Backend::Sqlite, seed, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_g2_g3_g4_g5_random_use_on_postgres_is_what_the_model_says() {
    for seed in seeds() {
        play(Backend::Postgres, seed, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_seed_gives_the_same_answers() {
    let seed = seeds()[0];
    let (first, second) =
        (play(Backend::Sqlite, seed, true).await.unwrap(), play(Backend::Sqlite, seed, true).await.unwrap());
    for (one, other) in first.iter().zip(&second) {
        assert_eq!(one, other);
    }
    assert_eq!(first.len(), second.len());
    assert!(first.len() > STEPS / 2, "most steps are calls");
}
