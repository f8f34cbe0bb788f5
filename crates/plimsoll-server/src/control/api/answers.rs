//! From homes' answers to JSON.

use super::{ApiError, Outcome};
use crate::worker::letter::Report;
use plimsoll_core::codes::ClientError;
use plimsoll_core::home::Answer;
use plimsoll_protocol::centrifugo::{write_info, write_pub};
use plimsoll_protocol::json::push_string;

/// The result of a call that a channel's home answered.
pub fn render(report: Option<Report>) -> Outcome {
    let Some(Report::Home(answer)) = report else {
        return Err(ClientError::INTERNAL.into());
    };
    let mut out = Vec::new();
    match answer {
        Answer::Published(None) | Answer::Done => return Ok("{}".into()),
        Answer::Published(Some(p)) => {
            return Ok(format!("{{\"offset\":{},\"epoch\":\"{}\"}}", p.offset, p.epoch.as_str()));
        }
        Answer::Stats { clients, users } => {
            return Ok(format!("{{\"num_clients\":{clients},\"num_users\":{users}}}"));
        }
        Answer::Presence(members) => {
            out.extend_from_slice(b"{\"presence\":{");
            for (i, member) in members.iter().enumerate() {
                separate(&mut out, i);
                push_string(&mut out, &member.client.to_string());
                out.push(b':');
                write_info(&mut out, member);
            }
            out.extend_from_slice(b"}}");
        }
        Answer::History(page) => {
            out.extend_from_slice(b"{\"publications\":[");
            for (i, publication) in page.publications.iter().enumerate() {
                separate(&mut out, i);
                write_pub(&mut out, publication);
            }
            let p = page.position;
            let end = format!("],\"offset\":{},\"epoch\":\"{}\"}}", p.offset, p.epoch.as_str());
            out.extend_from_slice(end.as_bytes());
        }
        Answer::Error(error) => return Err(ApiError::Told(error)),
        Answer::Subscribed(_) => return Err(ClientError::INTERNAL.into()),
    }
    String::from_utf8(out).map_err(|_| ClientError::INTERNAL.into())
}

fn separate(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}
