//! A model of the API: pages of records whose keys recur and whose versions rise; a page may be
//! served again.

use rand::Rng;
use rand::rngs::StdRng;

use forebay_schemas::offset::Partition;

/// Keys there are. They are spread over the partitions that there are, so some move when partitions
/// are added.
pub(super) const KEYS: u16 = 9;
/// Reads: one without params, one with, and one of a window with the same params.
pub(super) const READS: usize = 3;

/// The bytes of a record's value.
pub(super) const VALUE: usize = 11;

/// The partition that a key belongs to, of this number of partitions.
pub(super) fn partition_of(key: u16, partitions: usize) -> usize {
    usize::from(key) % partitions
}

/// A record, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// None: it becomes a dead letter on the way into the topic.
    pub(super) key: Option<u16>,
    /// Whether it has no key in the topic, though it is of a row like others.
    pub(super) unkeyed: bool,
    /// The same for the same content.
    pub(super) event: u64,
    /// Whether it becomes a dead letter on the way out of the topic.
    pub(super) bad: bool,
}

impl Content {
    /// The partition that it goes to, of this number of them: that of its key, or any. `roll` is
    /// random.
    pub(super) fn partition(self, partitions: usize, roll: u32) -> Option<Partition> {
        self.key.map(|key| if self.unkeyed { roll as usize % partitions } else { partition_of(key, partitions) } as Partition)
    }

    /// Its bytes in the topic.
    pub(super) fn value(self) -> [u8; VALUE] {
        let mut value = [u8::from(self.bad); VALUE];
        value[1..9].copy_from_slice(&self.event.to_be_bytes());
        value[9..].copy_from_slice(&self.key.unwrap_or_default().to_be_bytes());
        value
    }

    /// Out of its bytes in the topic.
    pub(super) fn read(key: Option<&[u8]>, value: &[u8]) -> Self {
        let event = u64::from_be_bytes(value[1..9].try_into().expect("an event has eight bytes"));
        let of_row = u16::from_be_bytes(value[9..].try_into().expect("a key has two bytes"));
        Self { key: Some(of_row), unkeyed: key.is_none(), event, bad: value[0] == 1 }
    }
}

/// The API.
#[derive(Debug, Default)]
pub(super) struct Api {
    /// Whether some of its records get no key in the topic.
    unkeyed: bool,
    /// The pages of each read.
    served: [Vec<Vec<Content>>; READS],
    last_event: u64,
}

impl Api {
    pub(super) fn new(unkeyed: bool) -> Self {
        Self { unkeyed, ..Self::default() }
    }

    /// A page of at most `most` records.
    pub(super) fn page(&mut self, most: usize, rng: &mut StdRng) -> Vec<Content> {
        let served = &self.served[0];
        if !served.is_empty() && rng.random_ratio(1, 6) {
            return served[rng.random_range(0..served.len())].clone();
        }
        self.fresh(0, most, rng)
    }

    /// The page of a read at a cursor, the same whenever it is asked for, and the cursor of the
    /// next one; none when there is nothing more for now.
    pub(super) fn page_at(&mut self, (read, cursor): (usize, usize), most: usize, rng: &mut StdRng) -> (Vec<Content>, Option<usize>) {
        while self.served[read].len() <= cursor {
            self.fresh(read, most, rng);
        }
        let more = cursor + 1 < self.served[read].len() || rng.random_ratio(2, 3);
        (self.served[read][cursor].clone(), more.then_some(cursor + 1))
    }

    /// The pages of a read before a cursor.
    pub(super) fn before(&self, read: usize, cursor: usize) -> impl Iterator<Item = &Content> {
        self.served[read].iter().take(cursor).flatten()
    }

    /// Records that another producer has, with keys that recur here too.
    pub(super) fn foreign(&mut self, most: usize, rng: &mut StdRng) -> Vec<Content> {
        let count = rng.random_range(1..=most);
        let record = |_| {
            self.last_event += 1;
            let key = Some(rng.random_range(0..KEYS));
            Content { key, unkeyed: false, event: self.last_event, bad: rng.random_ratio(1, 16) }
        };
        (0..count).map(record).collect()
    }

    /// A record that was never given before, or another version of one.
    pub(super) fn record(&mut self, key: u16, rng: &mut StdRng) -> Content {
        self.last_event += 1;
        let unkeyed = self.unkeyed && rng.random_bool(0.5);
        Content { key: (!rng.random_ratio(1, 24)).then_some(key), unkeyed, event: self.last_event, bad: rng.random_ratio(1, 16) }
    }

    fn fresh(&mut self, read: usize, most: usize, rng: &mut StdRng) -> Vec<Content> {
        let records = (0..rng.random_range(0..=most)).map(|_| {
            let key = rng.random_range(0..KEYS);
            self.record(key, rng)
        });
        let page: Vec<_> = records.collect();
        self.served[read].push(page.clone());
        page
    }
}
