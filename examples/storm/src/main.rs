//! Prints what the layers do for callers and upstream. Usage: `storm [seed]`
#![allow(clippy::print_stdout, reason = "printing is what this program does")]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed = std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse())?;
    let run = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
    };
    println!("64 callers, an upstream of 50 calls/s, 2 % faults, away from 20 s to 30 s of 60 s\n");
    println!(
        "{:<10} {:>12} {:>14} {:>10} {:>16}",
        "", "answers/s", "wasted calls", "p99", "back in business"
    );
    println!(
        "{:<10} {}",
        "without",
        run()?.block_on(storm::without(seed))
    );
    println!(
        "{:<10} {}",
        "with",
        run()?.block_on(storm::with(seed, &storm::config()))?
    );
    Ok(())
}
