//! Real processes: started, watched, killed.
