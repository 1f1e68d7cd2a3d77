mod harness;
mod ideal;
mod lists;
mod model;
mod registers;
