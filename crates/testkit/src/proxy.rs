//! A TCP proxy that can stall, cut and refuse.
