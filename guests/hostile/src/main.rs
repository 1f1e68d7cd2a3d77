//! A guest that attacks.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
guest_bare::program!(start);

#[cfg(target_os = "none")]
fn start() -> ! {
    guest_bare::event::Event::new("ready")
        .text("program", "hostile")
        .send();
    loop {
        let line = guest_bare::console::read_line();
        guest_bare::say!("? {line}");
    }
}

/// The program runs in a VM only.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("a bare-metal program: build it for aarch64-unknown-none-softfloat");
    std::process::exit(2);
}
