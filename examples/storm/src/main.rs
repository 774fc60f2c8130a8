//! Prints what the layers do for callers and upstream. Usage: `storm [seed]`
#![allow(clippy::print_stdout, reason = "printing is what this program does")]

use std::io;

use tokio::runtime::{Builder, Runtime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed = std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse())?;
    println!(
        "64 callers, an upstream of 50 calls/s, 2 % faults, unavailable from 20 s to 30 s of 60 s\n"
    );
    let heads = ["", "answers/s", "wasted calls", "p99", "back in business"];
    println!(
        "{:<10} {:>12} {:>14} {:>10} {:>16}",
        heads[0], heads[1], heads[2], heads[3], heads[4]
    );
    println!(
        "{:<10} {}",
        "one try",
        paused()?.block_on(storm::without(seed, 1))
    );
    println!(
        "{:<10} {}",
        "five tries",
        paused()?.block_on(storm::without(seed, 5))
    );
    let with = paused()?.block_on(storm::with(seed, &storm::config()))?;
    println!("{:<10} {with}", "layers");
    Ok(())
}

fn paused() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
}
