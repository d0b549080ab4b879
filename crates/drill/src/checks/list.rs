//! From the list of checks to the type that holds any of them.
//!
//! Written by hand rather than derived, so that a check is a map of one key in YAML (not a YAML tag), an
//! unknown name is answered with the known ones, and errors keep their line and column.

/// Makes the modules, `Check`, `ALL`, reading, writing and the JSON schema from one list.
macro_rules! checks {
    ($($name:ident => $module:ident :: $type:ident),* $(,)?) => {
        $(pub(crate) mod $module; pub use $module::$type;)*

        /// One check of a drill.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Check {
            $(
                #[doc = concat!("`", stringify!($name), "`.")]
                $type($type),
            )*
        }

        /// Every kind of check, ordered by name.
        pub const ALL: &[Kind] = &[$(Kind {
            name: stringify!($name),
            about: <$type as Rule>::ABOUT,
            example: <$type as Rule>::EXAMPLE,
            schema: |generator| generator.subschema_for::<$type>(),
        }),*];

        impl Check {
            /// Its name, as written in a drill.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$type(_) => stringify!($name),)*
                }
            }

            /// Everything that makes it impossible to evaluate, each in words; empty when it can be.
            pub fn validate(&self, known: &Known) -> Vec<String> {
                match self {
                    $(Self::$type(rule) => rule.validate(known),)*
                }
            }

            /// What it demands, in words.
            pub fn demand(&self) -> String {
                match self {
                    $(Self::$type(rule) => rule.demand(),)*
                }
            }

            fn rule_judge(&self, history: &$crate::history::History<'_>) -> Finding {
                match self {
                    $(Self::$type(rule) => rule.judge(history),)*
                }
            }
        }

        impl serde::Serialize for Check {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(Some(1))?;
                match self {
                    $(Self::$type(rule) => map.serialize_entry(stringify!($name), rule)?,)*
                }
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for Check {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = Check;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a check: a map of its name to its parameters")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Check, A::Error> {
                        use serde::de::Error;
                        let Some(name) = map.next_key::<String>()? else {
                            return Err(A::Error::custom("a check has a name and parameters, this is empty"));
                        };
                        let check = match name.as_str() {
                            $(stringify!($name) => Check::$type(map.next_value()?),)*
                            other => {
                                let known: Vec<_> = ALL.iter().map(|kind| kind.name).collect();
                                return Err(A::Error::custom(format!(
                                    "unknown check {other:?}; there are {}", known.join(", "),
                                )));
                            }
                        };
                        match map.next_key::<String>()? {
                            None => Ok(check),
                            Some(second) => Err(A::Error::custom(format!(
                                "one check a list item: {second:?} needs a dash of its own",
                            ))),
                        }
                    }
                }

                deserializer.deserialize_map(Visitor)
            }
        }

        impl schemars::JsonSchema for Check {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                "Check".into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let kinds: Vec<_> = ALL
                    .iter()
                    .map(|kind| {
                        let parameters = (kind.schema)(generator);
                        schemars::json_schema!({
                            "type": "object",
                            "description": kind.about,
                            "properties": { kind.name: parameters },
                            "required": [kind.name],
                            "additionalProperties": false,
                        })
                    })
                    .collect();
                schemars::json_schema!({ "oneOf": kinds })
            }
        }
    };
}
