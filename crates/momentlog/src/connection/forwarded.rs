//! Calls that another program is asked, by clients that this one passes on.

use momentlog_core::{DomainUuid, Refusal, Report};
use momentlog_engine::{Call, Outcome, Provenance, Request};

use super::Connection;
#[cfg(doc)]
use crate::error::ErrorCode;
use crate::error::{ErrorDomain, Result};

impl Connection {
    /// Records what a call to another program did to a domain, as that program lists it, or that the call is about to be
    /// passed on: one record of that call with these flags. Without reports, the record says only that the call was made, by
    /// whom and why; without a domain, it is about none, as before a domain is defined.
    ///
    /// It takes no note of a request id.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; the [`Refusal`] of a report; what the store says.
    pub fn report_call(
        &self,
        call: (Call, u32),
        domain: Option<DomainUuid>,
        reports: &[Report],
    ) -> Result<Outcome> {
        self.deny_read_only("report_call", ErrorDomain::Domain)?;
        let provenance = Provenance {
            request_id: None,
            ..self.provenance().clone()
        };
        let request = Request::of_call(&provenance, call, domain, &[]);
        self.decide(request, &mut |decision| {
            for report in reports {
                let uuid = domain.ok_or(Refusal::NoDomain {
                    uuid: DomainUuid::from_bytes([0; 16]),
                })?;
                decision.decide_report(uuid, report)?;
            }
            Ok(())
        })
    }
}
