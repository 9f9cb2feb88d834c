//! Server-sent events, as far as `GET /v1/events` uses them: what stands in `data:` lines, up to an empty one. Pure.

/// The longest event that is taken; one of the journal is far below.
const MAX_EVENT_BYTES: usize = 4 << 20;

/// Puts the chunks of a stream together.
#[derive(Debug, Default)]
pub(super) struct Parser {
    rest: Vec<u8>,
    data: Vec<u8>,
}

impl Parser {
    /// The data of each event that is whole with this chunk.
    ///
    /// # Errors
    /// When an event has no end within [`MAX_EVENT_BYTES`] bytes.
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
    fn events_are_the_same_however_the_stream_is_cut() {
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let events: Vec<_> = STREAM.chunks(size).flat_map(|chunk| parser.feed(chunk).unwrap()).collect();
            assert_eq!(events, [b"{\"a\":1}".to_vec(), b"b\nc".to_vec()], "{size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        assert!((0..5).any(|_| parser.feed(&vec![b'x'; 1 << 20]).is_err()));
    }
}
