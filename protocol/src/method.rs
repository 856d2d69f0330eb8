//! Methods: what client and broker tell each other to do.
//!
//! Each class has a module, and each method is listed there once, with its ids and its fields in the order of the
//! wire; the struct, its decoder and its encoder come from that list. [`Method`] is any of them.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError, Fault};
use crate::wire::{Reader, Writer};

pub mod access;
pub mod basic;
pub mod channel;
pub mod confirm;
pub mod connection;
pub mod exchange;
pub mod queue;
pub mod tx;

/// The numbers that name a method on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId {
    /// The class.
    pub class_id: u16,
    /// The method within its class.
    pub method_id: u16,
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.class_id, self.method_id)
    }
}

/// What the lists below generate for each method.
pub(crate) trait Fields<'a>: Sized {
    const ID: MethodId;
    const NAME: &'static str;

    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault>;
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError>;
}

/// Lists the methods of a class: `id Name "class.name" (reserved fields before) { fields } (reserved after)`.
/// Reserved fields are written as zeros and empty strings, and what a peer put there is passed over.
macro_rules! methods {
    // The type as it is read from octets of that lifetime.
    (@of $name:ident $wire:lifetime) => { $name };
    (@of $name:ident $wire:lifetime, $life:lifetime) => { $name<$wire> };
    (class $class_id:literal; $(
        $(#[$about:meta])*
        $method_id:literal $name:ident $(<$life:lifetime>)? $text:literal
        ($($before:ty),*) { $($(#[$meaning:meta])* $field:ident: $type:ty,)* } ($($after:ty),*)
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $($(#[$meaning])* pub $field: $type,)*
        }

        impl $(<$life>)? $name $(<$life>)? {
            /// The method's class and number.
            pub const ID: $crate::method::MethodId =
                $crate::method::MethodId { class_id: $class_id, method_id: $method_id };
        }

        impl<'wire> $crate::method::Fields<'wire> for $crate::method::methods!(@of $name 'wire $(, $life)?) {
            const ID: $crate::method::MethodId = Self::ID;
            const NAME: &'static str = $text;

            #[inline]
            #[allow(unused_variables, reason = "there are methods without fields")]
            fn read(reader: &mut $crate::wire::Reader<'wire>) -> Result<Self, $crate::error::Fault> {
                $(<$before as $crate::wire::Field<'wire>>::read(reader)?;)*
                $(let $field = $crate::wire::Field::read(reader)?;)*
                $(<$after as $crate::wire::Field<'wire>>::read(reader)?;)*
                Ok($name { $($field),* })
            }

            #[inline]
            #[allow(unused_variables, reason = "there are methods without fields")]
            fn write(&self, writer: &mut $crate::wire::Writer<'_>) -> Result<(), $crate::error::EncodeError> {
                $($crate::wire::Field::write(<$before as $crate::wire::Field<'_>>::RESERVED, writer)?;)*
                $($crate::wire::Field::write(self.$field, writer)?;)*
                $($crate::wire::Field::write(<$after as $crate::wire::Field<'_>>::RESERVED, writer)?;)*
                Ok(())
            }
        }
    )*};
}
use methods;

/// Makes the enum of all methods and what goes by its variants.
macro_rules! method_enum {
    ($($variant:ident($class:ident::$name:ident $(<$life:lifetime>)?),)*) => {
        /// Any method.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Method<'a> {
            $(
                #[doc = concat!("[`", stringify!($class), "::", stringify!($name), "`]")]
                $variant($class::$name $(<$life>)?),
            )*
        }

        impl<'a> Method<'a> {
            /// Reads the payload of a method frame; every octet must belong to a field.
            ///
            /// # Errors
            /// [`DecodeError::UnknownMethod`] if the ids name no method, [`DecodeError::Malformed`] if the fields
            /// are not what they should be.
            #[inline]
            pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
                let Some((&[c0, c1, m0, m1], fields)) = payload.split_first_chunk::<4>() else {
                    return Err(DecodeError::Malformed { what: "method", fault: Fault::Truncated });
                };
                let id = MethodId {
                    class_id: u16::from_be_bytes([c0, c1]),
                    method_id: u16::from_be_bytes([m0, m1]),
                };
                match id {
                    $($class::$name::ID => read(fields).map(Method::$variant),)*
                    unknown => Err(DecodeError::UnknownMethod(unknown)),
                }
            }

            /// The method's class and number.
            pub fn id(&self) -> MethodId {
                match self {
                    $(Method::$variant(_) => $class::$name::ID,)*
                }
            }

            /// The method's name in the specification, such as `basic.publish`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Method::$variant(method) => name_of(method),)*
                }
            }

            /// Appends ids and fields, the payload of a method frame. After an error `out` holds a part of it.
            #[inline]
            pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
                match self {
                    $(Method::$variant(method) => write(method, out),)*
                }
            }
        }

        impl MethodId {
            /// The name of the method in the specification, such as `basic.publish`, if there is such a method.
            #[allow(elided_lifetimes_in_paths, reason = "some methods borrow and some do not")]
            pub fn name(&self) -> Option<&'static str> {
                match *self {
                    $($class::$name::ID => Some(<$class::$name as Fields<'_>>::NAME),)*
                    _ => None,
                }
            }
        }

        $(
            impl<'a> From<$class::$name $(<$life>)?> for Method<'a> {
                #[inline]
                fn from(method: $class::$name $(<$life>)?) -> Self {
                    Method::$variant(method)
                }
            }
        )*
    };
}

method_enum! {
    ConnectionStart(connection::Start<'a>),
    ConnectionStartOk(connection::StartOk<'a>),
    ConnectionSecure(connection::Secure<'a>),
    ConnectionSecureOk(connection::SecureOk<'a>),
    ConnectionTune(connection::Tune),
    ConnectionTuneOk(connection::TuneOk),
    ConnectionOpen(connection::Open<'a>),
    ConnectionOpenOk(connection::OpenOk),
    ConnectionClose(connection::Close<'a>),
    ConnectionCloseOk(connection::CloseOk),
    ConnectionBlocked(connection::Blocked<'a>),
    ConnectionUnblocked(connection::Unblocked),
    ConnectionUpdateSecret(connection::UpdateSecret<'a>),
    ConnectionUpdateSecretOk(connection::UpdateSecretOk),
    ChannelOpen(channel::Open),
    ChannelOpenOk(channel::OpenOk),
    ChannelFlow(channel::Flow),
    ChannelFlowOk(channel::FlowOk),
    ChannelClose(channel::Close<'a>),
    ChannelCloseOk(channel::CloseOk),
    AccessRequest(access::Request<'a>),
    AccessRequestOk(access::RequestOk),
    ExchangeDeclare(exchange::Declare<'a>),
    ExchangeDeclareOk(exchange::DeclareOk),
    ExchangeDelete(exchange::Delete<'a>),
    ExchangeDeleteOk(exchange::DeleteOk),
    ExchangeBind(exchange::Bind<'a>),
    ExchangeBindOk(exchange::BindOk),
    ExchangeUnbind(exchange::Unbind<'a>),
    ExchangeUnbindOk(exchange::UnbindOk),
    QueueDeclare(queue::Declare<'a>),
    QueueDeclareOk(queue::DeclareOk<'a>),
    QueueBind(queue::Bind<'a>),
    QueueBindOk(queue::BindOk),
    QueuePurge(queue::Purge<'a>),
    QueuePurgeOk(queue::PurgeOk),
    QueueDelete(queue::Delete<'a>),
    QueueDeleteOk(queue::DeleteOk),
    QueueUnbind(queue::Unbind<'a>),
    QueueUnbindOk(queue::UnbindOk),
    BasicQos(basic::Qos),
    BasicQosOk(basic::QosOk),
    BasicConsume(basic::Consume<'a>),
    BasicConsumeOk(basic::ConsumeOk<'a>),
    BasicCancel(basic::Cancel<'a>),
    BasicCancelOk(basic::CancelOk<'a>),
    BasicPublish(basic::Publish<'a>),
    BasicReturn(basic::Return<'a>),
    BasicDeliver(basic::Deliver<'a>),
    BasicGet(basic::Get<'a>),
    BasicGetOk(basic::GetOk<'a>),
    BasicGetEmpty(basic::GetEmpty),
    BasicAck(basic::Ack),
    BasicReject(basic::Reject),
    BasicRecoverAsync(basic::RecoverAsync),
    BasicRecover(basic::Recover),
    BasicRecoverOk(basic::RecoverOk),
    BasicNack(basic::Nack),
    ConfirmSelect(confirm::Select),
    ConfirmSelectOk(confirm::SelectOk),
    TxSelect(tx::Select),
    TxSelectOk(tx::SelectOk),
    TxCommit(tx::Commit),
    TxCommitOk(tx::CommitOk),
    TxRollback(tx::Rollback),
    TxRollbackOk(tx::RollbackOk),
}

impl Method<'_> {
    /// Whether a content header and a body follow.
    #[inline]
    pub fn has_content(&self) -> bool {
        matches!(
            self,
            Method::BasicPublish(_)
                | Method::BasicReturn(_)
                | Method::BasicDeliver(_)
                | Method::BasicGetOk(_)
        )
    }
}

#[inline]
fn read<'a, M: Fields<'a>>(fields: &'a [u8]) -> Result<M, DecodeError> {
    let mut reader = Reader::new(fields);
    let method = M::read(&mut reader).and_then(|method| reader.finish().map(|()| method));
    method.map_err(|fault| DecodeError::Malformed { what: M::NAME, fault })
}

fn name_of<'a, M: Fields<'a>>(_: &M) -> &'static str {
    M::NAME
}

#[inline]
fn write<'a, M: Fields<'a>>(method: &M, out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_u16(M::ID.class_id);
    out.put_u16(M::ID.method_id);
    method.write(&mut Writer::new(out))
}
