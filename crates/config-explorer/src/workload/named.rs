//! Enums whose variants have a name in tables and files.

/// An enum with the name of each variant: `ALL`, `name` and `from_name`.
macro_rules! named {
    ($(#[$meta:meta])* pub enum $type:ident { $($(#[$about:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$about])* $variant,)+
        }

        impl $type {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in tables and files.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The one that goes by a name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use named;
