//! The topic exchange's rule: binding keys are patterns of words between dots, in which `*` stands for one
//! word and `#` for any number of them.
//!
//! Patterns share their beginnings in a trie. A match walks the key once, carrying the set of nodes that the
//! words so far lead to. Invariant: no node is in the set twice, so a match costs at most words times nodes
//! reached, whatever the patterns; nothing here recurses, and nodes without purpose are cut off at removal.

use std::ptr;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::map::{Map, new_map};
use super::target::{Target, TargetSet};

/// The patterns of one exchange.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    root: Node,
}

/// What may follow the words on the way to it.
#[derive(Clone, Debug)]
struct Node {
    /// Bindings whose pattern ends here.
    targets: TargetSet,
    words: Map<Arc<str>, Node>,
    /// After `*`.
    any_word: Option<Arc<Node>>,
    /// After `#`. Has itself no `#` child: `#.#` means `#`.
    any_words: Option<Arc<Node>>,
}

impl Node {
    fn new() -> Self {
        Self { targets: TargetSet::default(), words: new_map(), any_word: None, any_words: None }
    }

    fn child(&self, word: &str) -> Option<&Self> {
        match word {
            "*" => self.any_word.as_deref(),
            "#" => self.any_words.as_deref(),
            word => self.words.get(word),
        }
    }

    /// Its own copy of the child, if snapshots share it.
    fn child_mut(&mut self, word: &str) -> Option<&mut Self> {
        match word {
            "*" => self.any_word.as_mut().map(Arc::make_mut),
            "#" => self.any_words.as_mut().map(Arc::make_mut),
            word => self.words.get_mut(word),
        }
    }

    fn insert_child(&mut self, word: &str, child: Self) {
        match word {
            "*" => self.any_word = Some(Arc::new(child)),
            "#" => self.any_words = Some(Arc::new(child)),
            word => self.words.insert_mut(Arc::from(word), child),
        }
    }

    fn remove_child(&mut self, word: &str) {
        match word {
            "*" => self.any_word = None,
            "#" => self.any_words = None,
            word => {
                self.words.remove_mut(word);
            }
        }
    }

    fn children(&self) -> usize {
        self.words.size() + usize::from(self.any_word.is_some()) + usize::from(self.any_words.is_some())
    }

    fn has_children(&self) -> bool {
        self.children() > 0
    }
}

impl Topic {
    pub(super) fn new() -> Self {
        Self { root: Node::new() }
    }

    pub(super) fn add(&mut self, pattern: &str, target: Target) {
        let mut node = &mut self.root;
        for word in pattern_words(pattern) {
            if node.child(word).is_none() {
                node.insert_child(word, Node::new());
            }
            node = node.child_mut(word).expect("the child was there or has been inserted");
        }
        node.targets.add(target);
    }

    pub(super) fn remove(&mut self, pattern: &str, target: &Target) {
        let words: Vec<&str> = pattern_words(pattern).collect();
        if self.node(&words).is_none() {
            return;
        }
        let leaf = self.node_mut(&words);
        leaf.targets.remove(target);
        // The empty pattern ends at the root, which stays.
        if !leaf.targets.is_empty() || leaf.has_children() || words.is_empty() {
            return;
        }
        let kept = self.kept_on_the_way_to(&words);
        self.node_mut(&words[..kept]).remove_child(words[kept]);
    }

    fn node(&self, words: &[&str]) -> Option<&Node> {
        words.iter().try_fold(&self.root, |node, word| node.child(word))
    }

    /// The node at a path that exists.
    fn node_mut(&mut self, words: &[&str]) -> &mut Node {
        words.iter().fold(&mut self.root, |node, word| {
            node.child_mut(word).expect("the caller has found the path before")
        })
    }

    /// How many words lead to the last node on the way that is there for other patterns too. All behind it
    /// serves an emptied leaf only.
    fn kept_on_the_way_to(&self, words: &[&str]) -> usize {
        let mut kept = 0;
        let mut node = &self.root;
        for (depth, word) in words.iter().enumerate() {
            if node.children() > 1 || !node.targets.is_empty() {
                kept = depth;
            }
            node = node.child(word).expect("the caller has found the path before");
        }
        kept
    }

    /// Calls `found` with the targets of every pattern that matches the key; a target may come several times.
    /// Returns how many nodes the match looked at, which is its cost.
    pub(super) fn for_each_match<'a>(&'a self, key: &str, found: &mut impl FnMut(&'a Target)) -> usize {
        let mut walk = Walk::default();
        let mut next = Vec::new();
        walk.reach(&self.root, &mut next, found);
        std::mem::swap(&mut walk.reached, &mut next);
        for word in words(key) {
            if walk.reached.is_empty() && walk.looping.is_empty() {
                break;
            }
            walk.step(word, &mut next, found);
        }
        for node in &walk.reached {
            node.targets.for_each(found);
        }
        walk.cost
    }
}

/// The set of nodes that the words so far lead to.
#[derive(Default)]
struct Walk<'a> {
    /// Nodes that consumed the last word, or the root before the first.
    reached: Vec<&'a Node>,
    /// Nodes after `#` that have children: once reached they stay, because `#` takes any further word.
    looping: Vec<&'a Node>,
    /// Every node after `#` reached so far. Identity only: nothing depends on the order.
    known: FxHashSet<*const Node>,
    cost: usize,
}

impl<'a> Walk<'a> {
    /// Takes one word. `next` is an empty vector, and is again afterwards.
    fn step(&mut self, word: &str, next: &mut Vec<&'a Node>, found: &mut impl FnMut(&'a Target)) {
        // What a `#` reaches by this word stands behind those that are looked at.
        for at in 0..self.looping.len() {
            self.follow(self.looping[at], word, next, found);
        }
        for at in 0..self.reached.len() {
            self.follow(self.reached[at], word, next, found);
        }
        self.reached.clear();
        std::mem::swap(&mut self.reached, next);
    }

    fn follow(
        &mut self,
        node: &'a Node,
        word: &str,
        next: &mut Vec<&'a Node>,
        found: &mut impl FnMut(&'a Target),
    ) {
        self.cost += 1;
        if let Some(child) = node.any_word.as_deref() {
            self.reach(child, next, found);
        }
        if let Some(child) = node.words.get(word) {
            self.reach(child, next, found);
        }
    }

    /// Adds a node, and the one after a `#` behind it, since `#` may take no word at all.
    fn reach(&mut self, node: &'a Node, next: &mut Vec<&'a Node>, found: &mut impl FnMut(&'a Target)) {
        self.cost += 1;
        next.push(node);
        let Some(after) = node.any_words.as_deref() else { return };
        if !self.known.insert(ptr::from_ref(after)) {
            return;
        }
        self.cost += 1;
        // Whatever follows, `#` takes it: these match already.
        after.targets.for_each(found);
        if after.has_children() {
            self.looping.push(after);
        }
    }
}

/// The words of a key. The empty key has none.
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').take(if key.is_empty() { 0 } else { usize::MAX })
}

/// The words of a pattern, without a `#` that follows another.
fn pattern_words(pattern: &str) -> impl Iterator<Item = &str> {
    let mut previous = "";
    words(pattern).filter(move |word| {
        let repeats = previous == "#" && *word == "#";
        previous = word;
        !repeats
    })
}

#[cfg(test)]
pub(super) mod tests;
