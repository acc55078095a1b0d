//! Whole-project tests stand in `tests/`.
