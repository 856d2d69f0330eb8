//! `ferrymq fsck DIR [--repair]`: what a stopped broker has stored, and whether it is sound.
//!
//! Invariant: without `--repair` nothing in the directory changes; with it no byte is deleted. What it calls damage
//! is what the next start would call damage.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use super::args::FsckArgs;
use super::offline::{Offline, amount, cannot, counted};
use super::tally::{Held, Tally};
use super::{Exit, say};
use crate::storage::log::{CheckReport, Damage, OsFileSystem, RepairReport, SegmentReport, check, repair};
use crate::telemetry::printable;

/// Where a repair keeps what it replaces, in the data directory.
const ASIDE: &str = "damaged-";

pub(super) fn run(args: &FsckArgs, out: &mut dyn Write) -> Result<Exit> {
    let open = if args.repair { Offline::open_to_write } else { Offline::open };
    let offline = open(&args.dir)?;
    say(out, &format_args!("data directory '{}'\n", args.dir.display()));
    let Some(log) = &offline.log else {
        say(out, &"message log: none yet\n");
        say(out, &"definitions: checked by the broker when it starts\n");
        return Ok(Exit::Success);
    };
    let mut tally = Tally::default();
    let report = check(log.clone(), &mut |placed| tally.apply(&placed.record))?;
    say_segments(&report, out);
    say_messages(&tally, out);
    say(out, &"definitions: checked by the broker when it starts\n");
    if report.recovery.damage.is_empty() {
        say(out, &"sound: no damage\n");
        return Ok(Exit::Success);
    }
    say_damage(&report.recovery.damage, out);
    if !args.repair {
        say(
            out,
            &"a broker starts with what is intact; --repair copies the damaged segments aside and mends the log\n",
        );
        return Ok(Exit::Failure);
    }
    mend(&args.dir, log, out)
}

fn say_segments(report: &CheckReport, out: &mut dyn Write) {
    let found = &report.recovery;
    let segments = counted(found.segments as u64, "segment");
    let (batches, records) = (counted(found.batches, "batch"), counted(found.records, "record"));
    say(out, &format_args!("message log: {segments}, {}, {batches}, {records}\n", amount(found.bytes)));
    if !report.segments.is_empty() {
        say(
            out,
            &format_args!("  {:<10} {:>12} {:>10} {:>12}  state\n", "segment", "bytes", "batches", "records"),
        );
    }
    let newest = report.segments.last().map(|segment| segment.number);
    for segment in &report.segments {
        let SegmentReport { number, bytes, batches, records, .. } = *segment;
        let state = state(segment, Some(number) == newest);
        say(out, &format_args!("  {number} {bytes:>12} {batches:>10} {records:>12}  {state}\n"));
    }
    if !report.spare_bytes.is_empty() {
        let spares = counted(report.spare_bytes.len() as u64, "spare file");
        say(out, &format_args!("  {spares}, {}\n", amount(report.spare_bytes.iter().sum())));
    }
    if let Some(tail) = found.torn_tail {
        let ignored = counted(tail.ignored_batches, "batch");
        say(
            out,
            &format_args!(
                "torn tail: the next start cuts segment {} at {} and drops {ignored} behind; nobody was told that \
                 they are durable\n",
                tail.segment, tail.offset
            ),
        );
    }
    let stop = if found.clean_stop { "yes" } else { "no" };
    say(out, &format_args!("stopped in order: {stop}\n"));
}

fn state(segment: &SegmentReport, newest: bool) -> String {
    let place = if newest { "newest" } else { "sealed" };
    let damage = segment.damage.map(|damage| match damage.batches {
        Some(batches) => format!("DAMAGED: {} lost", counted(batches, "batch")),
        None => "DAMAGED: unreadable".to_owned(),
    });
    let dropped = segment.dropped_from.map(|offset| match offset {
        0 if segment.batches == 0 => "holds nothing, the next start removes it".to_owned(),
        _ => format!("torn tail cut at {offset}"),
    });
    [Some(place.to_owned()), damage, dropped].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn say_messages(tally: &Tally, out: &mut dyn Write) {
    let held = tally.held();
    let (messages, bytes) =
        held.iter().fold((0, 0), |(messages, bytes), held| (messages + held.messages, bytes + held.bytes));
    let queues = counted(held.len() as u64, "queue");
    say(out, &format_args!("stored: {} in {queues}, {}\n", counted(messages, "message"), amount(bytes)));
    for held in held.iter().filter(|held| held.messages > 0) {
        let Held { vhost, queue, messages, bytes } = *held;
        let (queue, vhost) =
            (name(tally.names.queue(vhost, queue), queue.0), name(tally.names.vhost(vhost), vhost.0.into()));
        say(out, &format_args!("  {messages:>10} {:>12}  queue {queue} in vhost {vhost}\n", amount(bytes)));
    }
}

/// A name in quotes, or the id.
pub(super) fn name(name: Option<&str>, id: u64) -> String {
    name.map_or_else(|| format!("#{id}"), |name| format!("{:?}", printable(name)))
}

fn say_damage(damage: &[Damage], out: &mut dyn Write) {
    for Damage { segment, batches } in damage {
        match batches {
            Some(batches) => {
                let batches = counted(*batches, "batch");
                say(
                    out,
                    &format_args!(
                        "DAMAGE: segment {segment}: {batches} lost, each what one client did at once\n"
                    ),
                );
            }
            None => say(
                out,
                &format_args!("DAMAGE: segment {segment}: unreadable, and nothing tells what was in it\n"),
            ),
        }
    }
}

fn mend(directory: &Path, log: &Arc<OsFileSystem>, out: &mut dyn Write) -> Result<Exit> {
    let place = free_place(directory);
    let aside = OsFileSystem::open(&place).map_err(|source| cannot("create", &place, &source))?;
    let RepairReport { segments, .. } = repair(log.clone(), &aside)?;
    let copied = counted(segments.len() as u64, "segment");
    say(out, &format_args!("repaired: {copied} copied to '{}', then\n", place.display()));
    for segment in segments {
        match segment.batches {
            0 => say(
                out,
                &format_args!("  {} taken out of the log: nothing in it is intact\n", segment.number),
            ),
            batches => {
                let batches = counted(batches, "intact batch");
                say(out, &format_args!("  {} written anew with its {batches}\n", segment.number));
            }
        }
    }
    let again = check(log.clone(), &mut |_| {})?;
    if again.recovery.damage.is_empty() {
        say(out, &"what is called lost above is lost; the log is sound\n");
        return Ok(Exit::Success);
    }
    say_damage(&again.recovery.damage, out);
    Ok(Exit::Failure)
}

/// The first name that is not taken.
fn free_place(directory: &Path) -> PathBuf {
    let places = (1u64..).map(|number| directory.join(format!("{ASIDE}{number}")));
    places.into_iter().find(|place| !place.exists()).expect("there are more numbers than directories")
}
