//! What libvirt's test driver answers by constants. In front of another store these calls do not exist: there, what a client
//! has set must be kept, and what it sees must be so.

use momentlog::core::RunState;

use super::own::{int, text};
use super::{Answer, Opened};
use crate::failure::Failure;
use crate::proto::{Param, Value};
use crate::session::calls::count;

/// A picture of one black pixel: of a guest's screen nothing is known.
pub(super) const SCREEN: &[u8] = b"\x89PNG\r\n\x1a\n\
    \0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3a\x7e\x9b\x55\
    \0\0\0\x0aIDAT\x78\x9c\x63\x60\0\0\0\x02\0\x01\x48\xaf\xa4\x71\
    \0\0\0\0IEND\xae\x42\x60\x82";

impl Opened {
    pub(super) fn of_test_driver(&self, number: i32, arguments: &[Value<'_>]) -> Answer {
        match (number, arguments) {
            (56, [Value::Domain(_)]) => Ok(vec![text("fair"), Value::Int(1)]),
            (57, [Value::Domain(of), Value::Int(max)]) => {
                self.domain(of).power()?;
                let weight = (b"weight".into(), Param::UInt(50));
                let params = [weight].into_iter().take(count("nparams", *max)?);
                Ok(vec![Value::Params(params.collect())])
            }
            // Taken and forgotten.
            (58, [Value::Domain(of), Value::Params(_)]) => {
                self.domain(of).power()?;
                Ok(vec![])
            }
            (121, [Value::Domain(of)]) => {
                let is_active = self.domain(of).power()?.state != RunState::Shutoff;
                let label: &[u8] = if is_active { b"libvirt-test\0" } else { b"\0" };
                Ok(vec![
                    Value::Chars(label.to_vec()),
                    int(u32::from(is_active)),
                ])
            }
            (122, _) => {
                let (model, interpretation) = (b"testSecurity\0".to_vec(), b"\0".to_vec());
                Ok(vec![Value::Chars(model), Value::Chars(interpretation)])
            }
            (211, [Value::Domain(_), Value::UInt(_), Value::UInt(flags)]) => match flags {
                0 => Ok(vec![Value::OptText(Some(b"image/png".into()))]),
                flags => Err(Failure::flags(*flags, "testDomainScreenshot")),
            },
            _ => self.own(number, arguments),
        }
    }
}
