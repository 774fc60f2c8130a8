//! What the fuzz targets run.

use crate::service::wire::Answer;

/// Reads bytes as a service's answer; nothing may panic, and what is read can be asked for its solution.
pub fn answer(data: &[u8]) {
    if let Ok(answer) = Answer::read(data) {
        let _ = (answer.solution_text(), answer.user_agent());
    }
}
