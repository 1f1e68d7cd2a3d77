// SPDX-License-Identifier: Apache-2.0 OR MIT
mod active;
mod boot;
mod choice;
mod harness;
mod ideal;
mod kicks;
mod late;
mod lists;
mod model;
mod ops;
mod registers;
mod words;
