// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `make test-hostile`: plays all attacks of the plan, or those with the given numbers; the plan is that of the ABI in
//! `POSTERN_TEST_ABI`. With `counted`, on one CPU where QEMU counts instructions.

use anyhow::{Context, Result, ensure};
use postern_tests::hostile::{plan, play};
use postern_tests::{Lab, abi};

fn main() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let given = words.len();
    words.retain(|word| word != "counted");
    let counted = words.len() < given;
    let plan = plan(abi()?.unwrap_or_default());
    let numbers = words
        .iter()
        .map(|word| {
            let number = word.parse().ok();
            number
                .filter(|number| plan.iter().any(|row| row.number == *number))
                .with_context(|| {
                    format!(
                        "there is no attack {word}: ATTACKS takes their numbers, as in \"3 17\""
                    )
                })
        })
        .collect::<Result<Vec<u8>>>()?;
    let lab = Lab::new(if counted {
        "hostile-counted"
    } else {
        "hostile-whole"
    })?;
    let system = lab.system("hostile.toml")?;
    let good = play(&lab, system, counted, |row| {
        numbers.is_empty() || numbers.contains(&row.number)
    })?;
    ensure!(good, "not all attacks got the expected answer");
    println!("PASS");
    Ok(())
}
