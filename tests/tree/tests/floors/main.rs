// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks that no import goes upwards: `docs/architecture.md` has the floors, and this test holds
//! the modules to them.
//!
//! - A module names what is on its own floor or on a lower one.
//! - No modules name each other in a circle.
//! - A module and its own private children (`mod`, or `pub(super) mod`) count as one; children that others can name do not.
//! - An inherent `impl` is on the floor of its type: otherwise the type's module could use what is
//!   above it without naming it.
//! - No glob re-exports, because they hide where a thing is defined.
mod arrows;
mod source;

use arrows::House;
use postern_tree::{read, top};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The crates, by the files of their roots.
const CRATES: [(&str, &str); 20] = [
    ("ffa_proto", "mediator/ffa-proto/src/lib.rs"),
    ("optee_proto", "optee-proto/src/lib.rs"),
    ("mediator", "mediator/src/lib.rs"),
    ("postern_arch", "hypervisor/arch/src/lib.rs"),
    ("postern_base", "hypervisor/base/src/lib.rs"),
    ("postern_boot_tree", "hypervisor/boot-tree/src/lib.rs"),
    ("postern_console", "hypervisor/console/src/lib.rs"),
    ("postern_devices", "hypervisor/devices/src/lib.rs"),
    ("postern_exceptions", "hypervisor/exceptions/src/lib.rs"),
    ("postern_flat_tree", "hypervisor/flat-tree/src/lib.rs"),
    ("postern_guest_tree", "hypervisor/guest-tree/src/lib.rs"),
    ("postern_monitor", "hypervisor/monitor/src/lib.rs"),
    ("postern_smccc", "hypervisor/smccc/src/lib.rs"),
    ("postern_smmu", "hypervisor/smmu/src/lib.rs"),
    ("postern_stage2", "hypervisor/stage2/src/lib.rs"),
    ("postern_uart", "hypervisor/uart/src/lib.rs"),
    ("postern_vgic", "hypervisor/vgic/src/lib.rs"),
    ("postern_virtio", "hypervisor/virtio/src/lib.rs"),
    ("hypervisor", "hypervisor/src/lib.rs"),
    ("postern", "hypervisor/image/src/main.rs"),
];

fn house() -> House {
    let mut modules = Vec::new();
    let mut roots = BTreeMap::new();
    for (name, file) in CRATES {
        let place = source::read(name, &top().join(file), &mut modules);
        roots.insert(name.to_owned(), place);
    }
    House { modules, roots }
}

/// Returns the floors of the document's table, the highest first: each is the list of its paths.
fn floors() -> Vec<Vec<String>> {
    let document = read(Path::new("docs/architecture.md"));
    let section = document
        .split("\n## The floors\n")
        .nth(1)
        .expect("a section about the floors");
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cell = row.split('|').nth(2).expect("a cell of modules");
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect()
        })
        .collect()
}

/// Returns the floor of a module: that of the longest path in the table that is a prefix of the
/// module's.
fn floor_of(path: &str, floors: &[Vec<String>]) -> Option<usize> {
    let is_below = |whole: &str| {
        path.strip_prefix(whole)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let rooms = floors
        .iter()
        .enumerate()
        .flat_map(|(floor, rooms)| rooms.iter().map(move |room| (floor, room)));
    rooms
        .filter(|(_, room)| is_below(room))
        .max_by_key(|(_, room)| room.len())
        .map(|(floor, _)| floor)
}

/// Returns the violations, each with its places.
fn findings() -> BTreeMap<String, Vec<String>> {
    let house = house();
    let floors = floors();
    let modules = &house.modules;
    let place = |module: usize, line: usize| {
        let file = modules[module].file.strip_prefix(top());
        let file = file.unwrap_or(&modules[module].file);
        format!("{}:{line}", file.display())
    };
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut note = |what: String, place: String| found.entry(what).or_default().push(place);

    let mut floor_at = Vec::new();
    for (index, module) in modules.iter().enumerate() {
        let floor = floor_of(&module.path, &floors);
        // A root that has several floors only has their names.
        if floor.is_none() && module.parent.is_some() {
            note(format!("{} is on no floor", module.path), place(index, 1));
        }
        floor_at.push(floor);
        for line in &module.public_globs {
            let what = format!("{} hands on a glob", module.path);
            note(what, place(index, *line));
        }
    }
    let arrows = house.arrows();
    for arrow in &arrows {
        let (from, to) = (floor_at[arrow.from], floor_at[arrow.to]);
        if from.zip(to).is_some_and(|(from, to)| to < from) {
            let (from, to) = (&modules[arrow.from].path, &modules[arrow.to].path);
            note(format!("{from} -> {to}"), place(arrow.from, arrow.line));
        }
    }
    for arrow in house.misplaced_impls() {
        if floor_at[arrow.from] >= floor_at[arrow.to] {
            continue;
        }
        let (from, to) = (&modules[arrow.from].path, &modules[arrow.to].path);
        let what = format!("{from} has an impl of {to}'s");
        note(what, place(arrow.from, arrow.line));
    }
    for circle in house.circles(&arrows) {
        let is_in = |module: usize| circle.contains(&module);
        for arrow in arrows.iter().filter(|a| is_in(a.from) && is_in(a.to)) {
            let (from, to) = (&modules[arrow.from].path, &modules[arrow.to].path);
            let what = format!("{from} -> {to}, in a circle");
            note(what, place(arrow.from, arrow.line));
        }
    }
    found
}

#[test]
fn modules_import_only_lower_floors() {
    let found = findings();
    let found = found
        .iter()
        .map(|(what, places)| format!("{what}\n    {}", places.join("\n    ")))
        .collect::<Vec<_>>();
    assert!(
        found.is_empty(),
        "docs/architecture.md, \"The floors\", says otherwise:\n{}",
        found.join("\n")
    );
}

#[test]
fn every_path_in_the_floor_table_exists() {
    let house = house();
    let paths: BTreeSet<_> = house.modules.iter().map(|m| m.path.as_str()).collect();
    for room in floors().iter().flatten() {
        assert!(paths.contains(room.as_str()), "there is no {room}");
    }
}

#[test]
fn every_el2_crate_is_checked() {
    let manifest = read(Path::new("Cargo.toml"));
    let members = manifest
        .lines()
        .find(|line| line.starts_with("members"))
        .expect("members");
    for member in members.split('"').skip(1).step_by(2) {
        let is_ours = member == "optee-proto"
            || ["mediator", "hypervisor"]
                .iter()
                .any(|top| member.starts_with(top));
        let roots = ["lib", "main"].map(|root| format!("{member}/src/{root}.rs"));
        let is_read = CRATES
            .iter()
            .any(|(_, file)| roots.iter().any(|root| root == file));
        assert_eq!(is_ours, is_read, "{member}");
    }
}

#[test]
fn arrows_lead_to_the_defining_module() {
    let mut modules = Vec::new();
    let file = top().join("tests/tree/tests/floors/fixture/lib.rs");
    let place = source::read("fixture", &file, &mut modules);
    let roots = BTreeMap::from([("fixture".to_owned(), place)]);
    let house = House { modules, roots };
    let name = |place: usize| {
        let path = house.modules[place].path.as_str();
        path.strip_prefix("fixture").expect("one crate")
    };
    let arrows = house.arrows();
    let mut found: Vec<_> = arrows
        .iter()
        .map(|arrow| (name(arrow.from), arrow.line, name(arrow.to)))
        .collect();
    found.sort_unstable();
    // Not among them: what only tests or texts contain, and a module with its own private parts.
    let expected = [
        ("::facade", 5, "::high"),
        ("::high", 2, "::low"),
        ("::high", 12, "::low"),
        ("::high::inner", 18, "::high"),
        ("::low", 2, "::high"),
        ("::low", 12, "::facade"),
        ("::low", 18, ""),
        ("::low", 18, "::high::inner"),
    ];
    assert_eq!(found, expected);
    let impls: Vec<_> = house
        .misplaced_impls()
        .iter()
        .map(|arrow| (name(arrow.from), arrow.line, name(arrow.to)))
        .collect();
    assert_eq!(impls, [("::high", 6, "::low")]);
    let circle = house.circles(&arrows);
    let names: BTreeSet<_> = circle.iter().flatten().map(|&place| name(place)).collect();
    assert_eq!(
        names,
        ["::facade", "::high", "::high::inner", "::low"].into()
    );
}
