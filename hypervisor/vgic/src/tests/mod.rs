// SPDX-License-Identifier: Apache-2.0 OR MIT
mod active;
mod boot;
mod choice;
mod distributor_v2;
mod harness;
mod hostile;
mod ideal;
mod kicks;
mod late;
mod lists;
mod model;
mod ops;
mod physical;
mod registers;
mod sgi_sources;
mod words;
