//! Rows that no entry of the journal told: what it had no room for, and the ends of holds whose region is lost.

use arrayvec::ArrayVec;

use super::Standing;
use super::accumulate::{Slot, charge};
use super::batch::Batch;
use super::fault::Fault;
use super::holds::Open;
use super::rows::blank;
use super::timeline::{start_in, starts_at};
use crate::config::time_zone;
use crate::usage::history::{Entry, Kind, Span, Starts, Sums};

/// Makes the saved sums those of the region; answers how many rows that took.
pub(super) fn correct(batch: &mut Batch<'_>, at: i64, region: &[Standing]) -> Result<usize, Fault> {
    let mut rows = 0;
    for standing in region {
        let (slot, places) = batch.alone(&standing.account)?;
        if let Some(rezone) = other_zone(batch, at, slot, standing)? {
            batch.row(&rezone, None, &places, &[slot])?;
            rows += 1;
        }
        let spans = std::iter::once((Span::Total, 0, standing.total)).chain(standing.periods.iter().copied());
        for (span, start, counted) in spans {
            let saved = batch.sums(slot, span, start)?;
            let missing = match span {
                // The region counts the requests of an hour and no more.
                Span::Hour => Sums { requests: counted.minus(&saved).requests, ..Sums::default() },
                _ => counted.minus(&saved),
            };
            if !missing.is_zero() {
                let entry = Entry { sums: missing, span: Some(span), ..blank(Kind::Overflow, at) };
                batch.row(&entry, Some(start), &places, &[slot])?;
                rows += 1;
            }
        }
    }
    Ok(rows)
}

/// The entry of another zone, which the journal had no room for.
fn other_zone(batch: &mut Batch<'_>, at: i64, slot: Slot, standing: &Standing) -> Result<Option<Entry>, Fault> {
    let name = &standing.account.zone;
    let Some(timeline) = batch.ledger.timeline(slot) else { return Ok(None) };
    if timeline.zone().iana_name().is_some_and(|saved| saved.eq_ignore_ascii_case(name)) {
        return Ok(None);
    }
    let was = timeline.now(at);
    let usual = starts_at(&time_zone("timezone", name)?, at);
    let start = |span: Span| {
        let told = standing.periods.iter().find(|(of, ..)| *of == span);
        told.map_or_else(|| start_in(&usual, span), |(_, start, _)| *start)
    };
    let is = Starts { hour: start(Span::Hour), day: start(Span::Day), month: start(Span::Month) };
    Ok(Some(Entry { rezone: Some((was, is, name.clone())), ..blank(Kind::Rezone, at) }))
}

/// Adds the ends of holds: those that had started are charged as held. Answers how many were released and how many charged.
pub(super) fn end_all(batch: &mut Batch<'_>, at: i64, open: &[Open]) -> Result<(usize, usize), Fault> {
    let (mut released, mut charged) = (0, 0);
    for Open { held, places, started } in open {
        let entry = if *started {
            charged += 1;
            Entry { sums: charge(held), estimated: true, ..blank(Kind::Orphan, at) }
        } else {
            released += 1;
            blank(Kind::Release, at)
        };
        let slots: ArrayVec<Slot, 8> = places.all().map(|id| batch.slot(id)).collect::<Result<_, _>>()?;
        batch.row(&Entry { held: Some(*held), ..entry }, None, places, &slots)?;
    }
    Ok((released, charged))
}
