mod harness;
mod lists;
mod registers;
