//! Harness shared by the test surfaces.
