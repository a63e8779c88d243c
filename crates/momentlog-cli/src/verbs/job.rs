//! Verbs of a domain's job: `domjobinfo` and `domjobabort`.

use momentlog::{JobInfo, JobState};
use momentlog_audit::json::DomainDoc;
use serde::Serialize;

use super::{Verb, domain_doc, the_domain};
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec, flag, needed};
use crate::layout::{capacity, escaped};
use crate::session::Session;

/// The verbs of jobs.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "domjobabort",
            "abort the backup of a domain that runs",
            &[
                needed("domain", "domain name, id or uuid"),
                flag("postcopy", "abort active migration to post-copy"),
            ],
        )
        .changing()
        .of_now(),
        run: abort,
    },
    Verb {
        spec: Spec::new(
            "domjobinfo",
            "show the backup of a domain that runs, or the one that ended last",
            &[
                needed("domain", "domain name, id or uuid"),
                flag("completed", "return statistics of the last job that ended"),
                flag(
                    "keep-completed",
                    "don't destroy statistics of the last job: they always stay",
                ),
                flag("anystats", "print statistics for any kind of job"),
                flag("rawstats", "print the raw data returned by libvirt"),
            ],
        )
        .of_now(),
        run: info,
    },
];

pub fn abort(session: &mut Session, invocation: &Invocation) -> Answer {
    if invocation.has("postcopy") {
        return Err(Failure::new(
            "unsupported option --postcopy: a backup is no migration",
        ));
    }
    let domain = the_domain(session, invocation)?;
    domain.abort_job()?;
    Ok(0)
}

/// The job of a domain, for programs.
#[derive(Debug, Serialize)]
struct JobDoc<'a> {
    schema: &'static str,
    domain: DomainDoc,
    job: Option<ShownDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownDoc<'a> {
    /// `unbounded`, `completed` or `failed`.
    state: &'static str,
    operation: &'static str,
    pull: bool,
    elapsed_ms: u64,
    done: Option<u64>,
    total: Option<u64>,
    error: Option<&'a str>,
}

pub fn info(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let shown = if invocation.has("completed") {
        domain.last_job()?
    } else {
        domain.job_info()?
    };
    session.document(&JobDoc {
        schema: "momentlog.job/1",
        domain: domain_doc(&domain),
        job: shown.as_ref().map(document),
    });
    let shown = match shown {
        None if invocation.has("rawstats") => "Job type: 0\n\n".to_owned(),
        None => told("Job type:", "None", ""),
        Some(shown) if invocation.has("rawstats") => raw(&shown),
        Some(shown) => text(&shown, invocation.has("anystats")),
    };
    session.print(&shown);
    Ok(0)
}

/// A line of `domjobinfo`, padded as virsh does.
fn told(label: &str, value: &str, unit: &str) -> String {
    if unit.is_empty() {
        format!("{label:<17} {value:<12}\n")
    } else {
        format!("{label:<17} {value:<12} {unit}\n")
    }
}

fn word(state: JobState) -> &'static str {
    match state {
        JobState::Unbounded => "Unbounded",
        JobState::Completed => "Completed",
        JobState::Failed => "Failed",
    }
}

/// What is shown of a job, which is a backup.
fn text(job: &JobInfo, any: bool) -> String {
    let mut text = told("Job type:", word(job.state), "");
    text += &told("Operation:", "Backup", "");
    if job.state == JobState::Failed && !any {
        return text;
    }
    text += &told("Time elapsed:", &job.elapsed_ms.to_string(), "ms");
    let sizes = match (job.bytes, job.pull) {
        (None, _) => Vec::new(),
        (Some((used, total)), true) => vec![
            ("Temporary disk space use:", used),
            ("Temporary disk space total:", total),
        ],
        (Some((done, total)), false) => vec![
            ("File processed:", done),
            ("File remaining:", total.saturating_sub(done)),
            ("File total:", total),
        ],
    };
    for (label, bytes) in sizes {
        text += &format!("{label:<17} {}\n", capacity(bytes));
    }
    if let Some(error) = &job.error {
        text += &format!("{:<17} {}\n", "Error message:", escaped(error));
    }
    text
}

fn document(job: &JobInfo) -> ShownDoc<'_> {
    ShownDoc {
        state: match job.state {
            JobState::Unbounded => "unbounded",
            JobState::Completed => "completed",
            JobState::Failed => "failed",
        },
        operation: "backup",
        pull: job.pull,
        elapsed_ms: job.elapsed_ms,
        done: job.bytes.map(|(done, _)| done),
        total: job.bytes.map(|(_, total)| total),
        error: job.error.as_deref(),
    }
}

fn raw(job: &JobInfo) -> String {
    let mut text = format!("Job type: {}\n\n", job.state.number());
    text += &format!("operation: {}\n", JobInfo::OPERATION);
    text += &format!("time_elapsed: {}\n", job.elapsed_ms);
    match (job.bytes, job.pull) {
        (None, _) => {}
        (Some((used, total)), true) => {
            text += &format!("disk_temp_used: {used}\ndisk_temp_total: {total}\n");
        }
        (Some((done, total)), false) => {
            let left = total.saturating_sub(done);
            text +=
                &format!("disk_total: {total}\ndisk_processed: {done}\ndisk_remaining: {left}\n");
        }
    }
    if job.state != JobState::Unbounded {
        let success = u8::from(job.state == JobState::Completed);
        text += &format!("success: {success}\n");
    }
    if let Some(error) = &job.error {
        text += &format!("errmsg: {}\n", escaped(error));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(state: JobState, pull: bool) -> JobInfo {
        JobInfo {
            state,
            pull,
            elapsed_ms: 400,
            bytes: Some((82 << 20, 2 << 30)),
            error: None,
        }
    }

    #[test]
    fn a_running_push_is_laid_out_as_virsh_does() {
        assert_eq!(
            text(&shown(JobState::Unbounded, false), false),
            "Job type:         Unbounded   \n\
             Operation:        Backup      \n\
             Time elapsed:     400          ms\n\
             File processed:   82.000 MiB\n\
             File remaining:   1.920 GiB\n\
             File total:       2.000 GiB\n"
        );
        assert_eq!(
            told("Job type:", "None", ""),
            "Job type:         None        \n"
        );
    }

    #[test]
    fn a_pull_shows_its_temporary_space() {
        let running = JobInfo {
            bytes: Some((0, 64 << 20)),
            ..shown(JobState::Unbounded, true)
        };
        let text = text(&running, false);
        let end = "Temporary disk space use: 0.000 B\nTemporary disk space total: 64.000 MiB\n";
        assert!(text.ends_with(end), "{text}");
        let raw = raw(&running);
        let end = "disk_temp_used: 0\ndisk_temp_total: 67108864\n";
        assert!(raw.ends_with(end), "{raw}");
    }

    #[test]
    fn of_a_failed_job_the_rest_is_shown_on_request() {
        let failed = JobInfo {
            error: Some("No space left on device".to_owned()),
            ..shown(JobState::Failed, false)
        };
        assert_eq!(
            text(&failed, false),
            "Job type:         Failed      \nOperation:        Backup      \n"
        );
        let text = text(&failed, true);
        assert!(text.contains("\nTime elapsed:     400          ms\nFile processed: "));
        assert!(
            text.ends_with("\nError message:    No space left on device\n"),
            "{text}"
        );
        assert_eq!(
            raw(&failed),
            "Job type: 4\n\n\
             operation: 9\n\
             time_elapsed: 400\n\
             disk_total: 2147483648\n\
             disk_processed: 85983232\n\
             disk_remaining: 2061500416\n\
             success: 0\n\
             errmsg: No space left on device\n"
        );
    }
}
