//! The calls that are answered here, because the library has no word for them.

use momentlog::core::DomainUuid;
use momentlog::{DomainListFlags, LIBVIRT_VERSION, MAX_VCPUS, NodeInfo};

use super::calls::{count, name};
use super::{Answer, Opened, Session};
use crate::failure::Failure;
use crate::proto::{DomainRef, Param, Stats, Value};

/// `VIR_DOMAIN_STATS_STATE` and `VIR_DOMAIN_STATS_BALLOON`.
const STATS_STATE: u32 = 1 << 0;
const STATS_BALLOON: u32 = 1 << 2;

impl Session {
    pub(super) fn own(&self, opened: &Opened, number: i32, arguments: &[Value<'_>]) -> Answer {
        let (connection, store) = (&opened.connection, &opened.entered.store);
        match (number, arguments) {
            (3, _) => Ok(vec![text(&connection.type_name())]),
            (4, _) => Ok(vec![Value::ULong(connection.version())]),
            (5, _) => Ok(vec![int(MAX_VCPUS)]),
            (6, _) => Ok(node_info(connection.node_info())),
            (7, _) => Ok(vec![text(&connection.capabilities())]),
            (59, _) => Ok(vec![text(&connection.hostname())]),
            (110, _) => Ok(vec![text(&self.served.uri)]),
            (149, _) => Ok(vec![Value::Int(1)]),
            (157, _) => Ok(vec![Value::ULong(LIBVIRT_VERSION)]),
            (342, [_, Value::OptText(arch), _, Value::OptText(kind), _]) => {
                let [arch, kind] = [arch, kind].map(|text| text.as_ref().map(name));
                let xml = connection.domain_capabilities(arch.as_deref(), kind.as_deref())?;
                Ok(vec![text(&xml)])
            }
            (360 | 361, _) => Ok(vec![]),
            (105, _) => {
                self.listener.register_unnumbered(store, 0)?;
                Ok(vec![Value::Int(1)])
            }
            (106, _) => {
                self.listener.deregister_unnumbered(0)?;
                Ok(vec![Value::Int(0)])
            }
            (167, [Value::Int(event)]) => {
                self.listener.register_unnumbered(store, *event)?;
                Ok(vec![])
            }
            (168, [Value::Int(event)]) => {
                self.listener.deregister_unnumbered(*event)?;
                Ok(vec![])
            }
            (316, [Value::Int(event), Value::OptDomain(domain)]) => {
                let domain = domain.as_ref().map(|of| DomainUuid::from_bytes(of.uuid));
                let id = self.listener.register(store, *event, domain)?;
                Ok(vec![Value::Int(id)])
            }
            (317, [Value::Int(id)]) => {
                self.listener.deregister(*id)?;
                Ok(vec![])
            }
            _ if self.served.ends => opened.of_test_driver(number, arguments),
            _ => opened.own(number, arguments),
        }
    }
}

impl Opened {
    pub(super) fn own(&self, number: i32, arguments: &[Value<'_>]) -> Answer {
        let counted = |count: usize| Ok(vec![Value::Int(i32::try_from(count).unwrap_or(i32::MAX))]);
        match (number, arguments) {
            (51, _) => counted(self.listed(DomainListFlags::ACTIVE)?.len()),
            (37, [Value::Int(max)]) => {
                let active = self.listed(DomainListFlags::ACTIVE)?;
                let ids = active.iter().map(|domain| domain.id);
                Ok(vec![Value::Ints(
                    ids.take(count("maxids", *max)?).collect(),
                )])
            }
            (25, _) => counted(self.listed(DomainListFlags::INACTIVE)?.len()),
            (21, [Value::Int(max)]) => {
                let inactive = self.listed(DomainListFlags::INACTIVE)?;
                let names = inactive.into_iter().map(|domain| domain.name);
                let names = names.take(count("maxnames", *max)?).collect();
                Ok(vec![Value::Texts(names)])
            }
            // No security model and no labels.
            (122, _) => Ok(vec![Value::Chars(vec![]), Value::Chars(vec![])]),
            (121, [Value::Domain(of)]) => {
                self.domain(of).power()?;
                Ok(vec![Value::Chars(vec![0]), Value::Int(0)])
            }
            // Nothing is known of the host's firmware.
            (203, [Value::UInt(0)]) => Ok(vec![text("<sysinfo type='smbios'>\n</sysinfo>\n")]),
            (203, [Value::UInt(flags)]) => Err(Failure::flags(*flags, "testConnectGetSysinfo")),
            // Of no guest is there more to say.
            (449, [Value::Domain(of)]) => {
                self.domain(of).power()?;
                counted(0)
            }
            (426, [Value::Domain(of), _]) => {
                self.domain(of).power()?;
                Ok(vec![Value::Texts(vec![])])
            }
            (344, [Value::Domains(of), Value::UInt(wanted), Value::UInt(_)]) => {
                self.stats(of, *wanted)
            }
            _ => Err(Failure::unknown_procedure(number)),
        }
    }

    fn listed(&self, flags: DomainListFlags) -> Result<Vec<DomainRef<'static>>, Failure> {
        let domains = self.connection.list_all_domains(flags)?;
        Ok(domains.iter().map(|one| self.domain_ref(one)).collect())
    }

    /// Statistics of these domains, or of all: run state and memory.
    fn stats(&self, of: &[DomainRef<'_>], wanted: u32) -> Answer {
        let domains = if of.is_empty() {
            self.connection.list_all_domains(DomainListFlags::NONE)?
        } else {
            of.iter().map(|of| self.domain(of)).collect()
        };
        let mut stats = Vec::new();
        for domain in &domains {
            // libvirt leaves out what is gone.
            let (Ok(power), Ok(info)) = (domain.power(), domain.info()) else {
                continue;
            };
            let mut params = Vec::new();
            let mut put = |name: &'static str, param| params.push((name.as_bytes().into(), param));
            if wanted == 0 || wanted & STATS_STATE != 0 {
                put("state.state", Param::Int(power.state.number().into()));
                put("state.reason", Param::Int(power.reason.into()));
            }
            if wanted == 0 || wanted & STATS_BALLOON != 0 {
                put("balloon.current", Param::ULLong(info.memory_kib));
                put("balloon.maximum", Param::ULLong(info.max_memory_kib));
            }
            stats.push(Stats {
                domain: self.domain_ref(domain),
                params,
            });
        }
        Ok(vec![Value::Stats(stats)])
    }
}

fn node_info(info: NodeInfo) -> Vec<Value<'static>> {
    let mut model = [0; 32];
    for (char, byte) in model.iter_mut().zip(info.model.bytes()) {
        *char = byte;
    }
    let numbers = [
        info.cpus,
        info.mhz,
        info.nodes,
        info.sockets,
        info.cores,
        info.threads,
    ];
    let mut answer = vec![Value::Model(model), Value::ULong(info.memory_kib)];
    answer.extend(numbers.map(int));
    answer
}

pub(super) fn int(number: u32) -> Value<'static> {
    Value::Int(i32::try_from(number).unwrap_or(i32::MAX))
}

pub(super) fn text(text: &str) -> Value<'static> {
    Value::Text(text.as_bytes().to_vec().into())
}
