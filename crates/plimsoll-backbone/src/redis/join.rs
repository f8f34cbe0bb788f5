//! Several calls at once.

use crate::contract::Later;
use std::future::poll_fn;
use std::task::Poll;

/// Polls all in order; all are first polled in the first turn.
pub(super) async fn join_all<T>(mut calls: Vec<Later<T>>) -> Vec<T> {
    let mut answers: Vec<Option<T>> = calls.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut waits = false;
        for (call, answer) in calls.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match call.as_mut().poll(context) {
                    Poll::Ready(value) => *answer = Some(value),
                    Poll::Pending => waits = true,
                }
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    answers.into_iter().flatten().collect()
}
