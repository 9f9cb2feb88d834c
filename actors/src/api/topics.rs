//! The topic and the dead-letter topic: their partitions and offsets.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use forebay_schemas::api::{TopicView, Topics};
use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::snapshot::PartitionView;

use super::extract::Params;
use super::{ApiResult, State};
use crate::broker;

pub(super) async fn topics(state: web::Data<State>, _: Params) -> ApiResult {
    let kafka = &state.api.pipeline.kafka;
    let dead = kafka.dead_letter_topic();
    let of_topic = broker::ends(&state.api.access, &kafka.topic).await?;
    let of_dead = broker::ends(&state.api.access, &dead).await?;
    let known = state.api.snapshots.snapshot().partitions;
    let topics = vec![
        TopicView { name: kafka.topic.clone(), kind: "records".into(), partitions: partitions(&of_topic, &known) },
        TopicView { name: dead, kind: "dead_letters".into(), partitions: partitions(&of_dead, &[]) },
    ];
    Ok(HttpResponse::Ok().json(Topics { topics }))
}

fn partitions(ends: &BTreeMap<Partition, (Offset, Offset)>, known: &[PartitionView]) -> Vec<PartitionView> {
    let view = |(&partition, &(begin, end)): (&Partition, &(Offset, Offset))| {
        let unknown = PartitionView { begin, end, ..PartitionView::unknown(partition) };
        let known = known.iter().find(|view| view.partition == partition).copied().unwrap_or(unknown);
        PartitionView { begin, end: end.max(known.written), ..known }
    };
    ends.iter().map(view).collect()
}
