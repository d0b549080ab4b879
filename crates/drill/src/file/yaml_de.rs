//! Serde's deserialiser over the placed tree: errors carry the place of the value or key they are about.

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::yaml::{Data, Fault, Key, Node, Position};

impl de::Error for Fault {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { at: None, message: message.to_string() }
    }
}

impl Fault {
    /// Places an error that has no place yet.
    fn placed(mut self, at: Position) -> Self {
        self.at.get_or_insert(at);
        self
    }
}

/// What a plain scalar stands for (YAML 1.2 core schema).
enum Plain {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    let radix = |prefix: &str, radix: u32| text.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, radix).ok());
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Plain::Unsigned(number);
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.')) {
        return Plain::Text;
    }
    if let Ok(number) = text.parse::<u64>() {
        return Plain::Unsigned(number);
    }
    if let Ok(number) = text.parse::<i64>() {
        return Plain::Signed(number);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Plain::Float(number),
        _ => Plain::Text,
    }
}

impl Node {
    fn any<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.data {
            Data::Scalar { text, plain: true } => match plain(text) {
                Plain::Null => visitor.visit_unit(),
                Plain::Bool(value) => visitor.visit_bool(value),
                Plain::Unsigned(value) => visitor.visit_u64(value),
                Plain::Signed(value) => visitor.visit_i64(value),
                Plain::Float(value) => visitor.visit_f64(value),
                Plain::Text => visitor.visit_str(text),
            },
            Data::Scalar { text, .. } => visitor.visit_str(text),
            Data::List(items) => visitor.visit_seq(Items(items.iter())),
            Data::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
        }
    }

    /// Text is what is written, a number too: `name: 5` and `on: true` are names.
    fn text_for<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.data {
            Data::Scalar { text, .. } if !self.is_null() => visitor.visit_str(text),
            _ => self.any(visitor),
        }
    }

    fn choose<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.data {
            Data::Scalar { text, .. } => {
                let at = self.at;
                visitor
                    .visit_enum(IntoDeserializer::<Fault>::into_deserializer(text.as_str()))
                    .map_err(|fault: Fault| fault.placed(at))
            }
            Data::Map(entries) => match &entries[..] {
                [(key, value)] => visitor.visit_enum(Variant { key, value }),
                _ => Err(Fault::new(self.at, "one key is expected here: what it is")),
            },
            Data::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
        }
    }
}

macro_rules! with_place {
    ($($method:ident => $do:ident),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.$do(visitor).map_err(|fault| fault.placed(self.at))
        })*
    };
}

impl<'de> Deserializer<'de> for &Node {
    type Error = Fault;

    with_place! {
        deserialize_any => any,
        deserialize_bool => any,
        deserialize_i8 => any,
        deserialize_i16 => any,
        deserialize_i32 => any,
        deserialize_i64 => any,
        deserialize_u8 => any,
        deserialize_u16 => any,
        deserialize_u32 => any,
        deserialize_u64 => any,
        deserialize_f32 => any,
        deserialize_f64 => any,
        deserialize_char => text_for,
        deserialize_str => text_for,
        deserialize_string => text_for,
        deserialize_bytes => any,
        deserialize_byte_buf => any,
        deserialize_unit => any,
        deserialize_identifier => text_for,
        deserialize_ignored_any => any,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }.map_err(|fault| fault.placed(self.at))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self).map_err(|fault| fault.placed(self.at))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // An empty value is an empty list or map.
        if self.is_null() { visitor.visit_seq(Items([].iter())) } else { self.any(visitor) }
            .map_err(|fault| fault.placed(self.at))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null() { visitor.visit_map(Entries { entries: [].iter(), value: None }) } else { self.any(visitor) }
            .map_err(|fault| fault.placed(self.at))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.choose(visitor).map_err(|fault| fault.placed(self.at))
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|item| seed.deserialize(item).map_err(|fault| fault.placed(item.at))).transpose()
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Key, Node)>,
    value: Option<(&'a Key, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, value));
        let text = IntoDeserializer::<Fault>::into_deserializer(key.text.as_str());
        seed.deserialize(text).map(Some).map_err(|fault: Fault| fault.placed(key.at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, value) = self.value.take().expect("serde asks for a value after its key");
        seed.deserialize(value).map_err(|fault| fault.placed(if value.is_null() { key.at } else { value.at }))
    }
}

struct Variant<'a> {
    key: &'a Key,
    value: &'a Node,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = Content<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'a>), Fault> {
        let text = IntoDeserializer::<Fault>::into_deserializer(self.key.text.as_str());
        let variant = seed.deserialize(text).map_err(|fault: Fault| fault.placed(self.key.at))?;
        Ok((variant, Content(self.value)))
    }
}

struct Content<'a>(&'a Node);

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        if self.0.is_null() { Ok(()) } else { Err(Fault::new(self.0.at, "nothing is expected here")) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        self.0.deserialize_map(visitor)
    }
}
