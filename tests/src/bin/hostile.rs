//! `make test-hostile`: the whole plan of attacks, or those whose numbers are given.

use anyhow::{Result, ensure};
use postern_tests::Lab;
use postern_tests::hostile::play;

fn main() -> Result<()> {
    let numbers = std::env::args()
        .skip(1)
        .map(|number| Ok(number.parse()?))
        .collect::<Result<Vec<u8>>>()?;
    let lab = Lab::new("hostile-whole")?;
    let good = play(&lab, |row| {
        numbers.is_empty() || numbers.contains(&row.number)
    })?;
    ensure!(good, "not all attacks got the expected answer");
    println!("PASS");
    Ok(())
}
