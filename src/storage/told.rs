//! Which definitions there are at start: what the metadata store holds and what the log tells.
//!
//! The log tells every definition that there is, because whoever retires a segment has its definitions appended
//! again. The store spares reading far back, and keeps what a damaged log has lost. Invariant: with an intact log
//! the result is what the log alone would give.

use std::collections::BTreeMap;

use super::RecordChange;
use crate::model::LogPosition;

/// Records by key.
pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the log says about definitions.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The position of the first batch that is there.
    first: Option<LogPosition>,
    /// It tells every definition, by itself.
    whole: bool,
    /// The last word about each definition, and where it stands.
    changes: BTreeMap<Vec<u8>, Word>,
}

/// What a definition is from a position on; nothing if it is gone.
type Word = (LogPosition, Option<Vec<u8>>);

/// What the metadata store holds.
#[derive(Debug)]
pub(super) struct View {
    /// It holds what was written, up to this position.
    pub(super) intact: Option<LogPosition>,
    pub(super) records: Vec<RecordChange>,
}

/// Where the definitions were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the metadata store, but for the last changes.
    Store,
    /// In the log alone: the store was damaged, missing, or not of this log.
    Log,
}

impl Told {
    /// A batch stands at this position.
    pub(super) fn batch(&mut self, position: LogPosition) {
        self.first.get_or_insert(position);
    }

    /// What was told is every definition there is.
    pub(super) fn is_whole(&mut self) {
        self.whole = true;
    }

    /// A definition was stored there.
    pub(super) fn define(&mut self, position: LogPosition, key: &[u8], value: Option<&[u8]>) {
        self.changes.insert(key.to_vec(), (position, value.map(<[u8]>::to_vec)));
    }

    /// The definitions in force. `last` is where the log ends, and `lossy` says that batches of it are missing.
    pub(super) fn resolve(self, view: &View, last: LogPosition, lossy: bool) -> (Records, Source) {
        let (base, from) = self.base(view, last, lossy);
        // What is whole needs no view; the view is one all the same if it is not ahead.
        let agrees = self.whole && view.intact.is_some_and(|position| position <= last);
        let source = if base || agrees { Source::Store } else { Source::Log };
        let records = if base { view.records.iter() } else { [].iter() };
        let mut records: Records = records
            .filter_map(|record| record.value.as_ref().map(|value| (record.key.clone(), value.clone())))
            .collect();
        for (key, (position, value)) in self.changes {
            if position <= from {
                continue;
            }
            match value {
                Some(value) => records.insert(key, value),
                None => records.remove(&key),
            };
        }
        (records, source)
    }

    /// Whether to begin with the view, and behind which position the log goes on from there.
    fn base(&self, view: &View, last: LogPosition, lossy: bool) -> (bool, LogPosition) {
        if self.whole {
            return (false, LogPosition::START);
        }
        let Some(first) = self.first else { return (true, last) };
        match view.intact {
            // What was retired before the view saw it is in the log again, further on, and nowhere says what is gone.
            Some(position) if position <= last && position.0 + 1 >= first.0 => (true, position),
            // Both have lost something: what either has is better than nothing.
            _ if lossy => (true, LogPosition::START),
            _ => (false, LogPosition::START),
        }
    }
}

/// What has to change for the view to hold these records.
pub(super) fn difference(view: Vec<RecordChange>, records: &Records) -> Vec<RecordChange> {
    let view: Records =
        view.into_iter().filter_map(|record| record.value.map(|value| (record.key, value))).collect();
    let gone = view.keys().filter(|key| !records.contains_key(*key));
    let gone = gone.map(|key| RecordChange { key: key.clone(), value: None });
    let there = records.iter().filter(|(key, value)| view.get(*key) != Some(*value));
    let there = there.map(|(key, value)| RecordChange { key: key.clone(), value: Some(value.clone()) });
    gone.chain(there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, value: Option<&str>) -> RecordChange {
        RecordChange { key: key.as_bytes().to_vec(), value: value.map(|value| value.as_bytes().to_vec()) }
    }

    fn view(intact: Option<u64>, records: &[(&str, &str)]) -> View {
        let records = records.iter().map(|(key, value)| change(key, Some(value))).collect();
        View { intact: intact.map(LogPosition), records }
    }

    fn told(first: u64, changes: &[(u64, &str, Option<&str>)]) -> Told {
        let mut told = Told::default();
        told.batch(LogPosition(first));
        for (position, key, value) in changes {
            told.batch(LogPosition(*position));
            told.define(LogPosition(*position), key.as_bytes(), value.map(str::as_bytes));
        }
        told
    }

    fn resolved(told: Told, view: &View, last: u64, lossy: bool) -> (Vec<(String, String)>, Source) {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (records, source) = told.resolve(view, LogPosition(last), lossy);
        (records.into_iter().map(|(key, value)| (text(key), text(value))).collect(), source)
    }

    fn pairs(records: &[(&str, &str)]) -> Vec<(String, String)> {
        records.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_log_goes_on_where_the_view_ends() {
        let changes = [(3, "a", Some("old")), (5, "a", Some("new")), (6, "b", None), (7, "c", Some("1"))];
        let view = view(Some(4), &[("a", "old"), ("b", "1"), ("d", "1")]);
        let expected = pairs(&[("a", "new"), ("c", "1"), ("d", "1")]);
        assert_eq!(resolved(told(2, &changes), &view, 9, false), (expected, Source::Store));
    }

    #[test]
    fn a_view_that_is_not_of_this_log_counts_for_nothing() {
        let changes = [(6, "a", Some("1")), (7, "b", Some("1")), (8, "b", None)];
        let expected = (pairs(&[("a", "1")]), Source::Log);
        // Older than the log's beginning, so that deletions may have gone unseen; beyond its end; damaged.
        for intact in [Some(4), Some(10), None] {
            let view = view(intact, &[("gone", "1")]);
            assert_eq!(resolved(told(6, &changes), &view, 9, false), expected, "{intact:?}");
        }
        let adjacent = view(Some(5), &[("kept", "1")]);
        let expected = (pairs(&[("a", "1"), ("kept", "1")]), Source::Store);
        assert_eq!(resolved(told(6, &changes), &adjacent, 9, false), expected);
    }

    #[test]
    fn without_a_log_the_view_is_all_there_is() {
        let view = view(Some(9), &[("a", "1")]);
        assert_eq!(resolved(Told::default(), &view, 9, false), (pairs(&[("a", "1")]), Source::Store));
    }

    #[test]
    fn when_both_are_damaged_what_either_has_is_kept() {
        let view = view(None, &[("a", "1"), ("b", "1")]);
        let told = told(2, &[(3, "b", None), (4, "c", Some("1"))]);
        assert_eq!(resolved(told, &view, 9, true), (pairs(&[("a", "1"), ("c", "1")]), Source::Store));
    }

    #[test]
    fn the_difference_makes_one_the_other() {
        let records = [("a", "1"), ("b", "2"), ("d", "1")];
        let records = records.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let old = vec![change("a", Some("1")), change("b", Some("1")), change("c", Some("1"))];
        let expected = [change("c", None), change("b", Some("2")), change("d", Some("1"))];
        assert_eq!(difference(old, &records), expected);
        assert_eq!(difference(expected[1..].to_vec(), &Records::new()).len(), 2);
    }
}
