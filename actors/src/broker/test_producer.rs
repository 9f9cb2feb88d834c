//! Produces records that no Rust or Java client would, through Kafka's wire protocol. Tests only.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// A header as raw bytes.
pub(crate) type Header<'a> = (&'a [u8], &'a [u8]);

/// Produces one record per value to a partition, each with these headers, by a `Produce` request of
/// version 7.
pub(crate) fn produce(broker: &str, topic: &str, partition: i32, values: &[&[u8]], headers: &[Header<'_>]) {
    let batch = batch(values, headers);
    let name = |text: &str| [&i16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let size = |bytes: usize| i32::try_from(bytes).unwrap().to_be_bytes();
    let request = [
        &[0, 0, 0, 7, 0, 0, 0, 1][..], // Produce, its version, the correlation
        &name("test"),
        &[0xff, 0xff, 0xff, 0xff], // no transaction, all replicas
        &5_000_i32.to_be_bytes(),
        &size(1),
        &name(topic),
        &size(1),
        &partition.to_be_bytes(),
        &size(batch.len()),
        &batch,
    ]
    .concat();
    let mut broker = TcpStream::connect(broker).unwrap();
    broker.write_all(&[&size(request.len())[..], &request].concat()).unwrap();
    let mut length = [0; 4];
    broker.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    broker.read_exact(&mut answer).unwrap();
    // correlation, one topic, its name, one partition, its number
    let error = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[error..error + 2], [0, 0], "the broker rejects it: {answer:?}");
}

/// A record batch of magic 2, not compressed.
fn batch(values: &[&[u8]], headers: &[Header<'_>]) -> Vec<u8> {
    let (count, now) = (i32::try_from(values.len()).unwrap(), 1_700_000_000_000_i64.to_be_bytes());
    let records: Vec<u8> = (0..).zip(values).flat_map(|(at, value)| record(at, value, headers)).collect();
    let body = [
        &[0, 0][..], // no attributes
        &(count - 1).to_be_bytes(),
        &now,
        &now,
        &[0xff; 14], // no producer, no epoch, no sequence
        &count.to_be_bytes(),
        &records,
    ]
    .concat();
    let length = i32::try_from(4 + 1 + 4 + body.len()).unwrap().to_be_bytes();
    [&[0; 8][..], &length, &[0xff; 4], &[2], &crc32c::crc32c(&body).to_be_bytes(), &body].concat()
}

fn record(offset: i64, value: &[u8], headers: &[Header<'_>]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&varint(i64::try_from(bytes.len()).unwrap()), bytes].concat();
    let mut body =
        [&[0][..], &varint(0), &varint(offset), &varint(-1), &sized(value), &varint(i64::try_from(headers.len()).unwrap())].concat();
    headers.iter().for_each(|(name, value)| body.extend([sized(name), sized(value)].concat()));
    sized(&body)
}

/// A zigzag varint, seven bits a byte.
fn varint(number: i64) -> Vec<u8> {
    let mut left = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    loop {
        let seven = u8::try_from(left & 0x7f).unwrap();
        left >>= 7;
        bytes.push(if left > 0 { seven | 0x80 } else { seven });
        if left == 0 {
            return bytes;
        }
    }
}
