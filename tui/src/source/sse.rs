//! A parser for server-sent events, limited to what `GET /v1/events` sends: `data:` lines up to an
//! empty line. Pure.

/// The maximum size of an event, far above one of the journal.
const MAX_EVENT_BYTES: usize = 4 << 20;

/// Assembles events from the chunks of a stream.
#[derive(Debug, Default)]
pub(super) struct Parser {
    rest: Vec<u8>,
    data: Vec<u8>,
}

impl Parser {
    /// Returns the data of each event that the chunk completes.
    ///
    /// # Errors
    /// An event has no end within [`MAX_EVENT_BYTES`] bytes.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        self.rest.extend_from_slice(chunk);
        let mut events = Vec::new();
        let mut from = 0;
        while let Some(end) = self.rest[from..].iter().position(|&byte| byte == b'\n') {
            let line = self.rest[from..from + end].strip_suffix(b"\r").unwrap_or(&self.rest[from..from + end]);
            if line.is_empty() {
                if !self.data.is_empty() {
                    events.push(std::mem::take(&mut self.data));
                }
            } else if let Some(data) = line.strip_prefix(b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            }
            from += end + 1;
        }
        self.rest.drain(..from);
        if self.rest.len() + self.data.len() > MAX_EVENT_BYTES {
            return Err(format!("an event has no end within {MAX_EVENT_BYTES} bytes"));
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"id: 1\ndata: {\"a\":1}\n\n:\n\nid: 2\r\ndata:b\r\ndata: c\r\n\r\n";

    #[test]
    fn events_are_the_same_however_the_stream_is_split() {
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let events: Vec<_> = STREAM.chunks(size).flat_map(|chunk| parser.feed(chunk).unwrap()).collect();
            assert_eq!(events, [b"{\"a\":1}".to_vec(), b"b\nc".to_vec()], "{size}");
        }
    }

    #[test]
    fn an_endless_event_is_an_error() {
        let mut parser = Parser::default();
        assert!((0..5).any(|_| parser.feed(&vec![b'x'; 1 << 20]).is_err()));
    }
}
