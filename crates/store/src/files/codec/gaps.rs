//! The offsets of a compacted batch, as the offsets left out before each event.

use crate::files::frame::Header;
use rowcast_core::Sparse;

/// Offsets left out before each event; nothing when none are.
pub(super) fn gaps(places: &[u32]) -> Vec<u32> {
    if places.last().is_none_or(|last| *last as usize + 1 == places.len()) {
        return Vec::new();
    }
    let mut next = 0;
    let gap = |place: &u32| {
        let gap = place - next;
        next = place + 1;
        gap
    };
    places.iter().map(gap).collect()
}

/// Which offsets a frame's events have; `None` for a frame that was not compacted.
pub(super) fn sparse(header: &Header, gaps: &[u32]) -> Result<Option<Box<Sparse>>, String> {
    let Some(skipped) = header.skipped else { return Ok(None) };
    if !gaps.is_empty() && gaps.len() != header.count as usize {
        return Err(format!("its gaps do not have {} events", header.count));
    }
    let mut next = 0u32;
    let mut place = |gap: u32| {
        let place = next.checked_add(gap)?;
        next = place.checked_add(1)?;
        Some(place)
    };
    let places: Option<Vec<u32>> = match gaps {
        [] => (0..header.count).map(|_| place(0)).collect(),
        gaps => gaps.iter().map(|gap| place(*gap)).collect(),
    };
    let span = header.count.checked_add(skipped).ok_or("it stands for too many offsets")?;
    let places = places.ok_or("its events lie too far apart")?;
    Ok(Some(Box::new(Sparse { places, span })))
}
