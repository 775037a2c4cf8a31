//! The two forms of a combinator: over a `Stream`, and over a stream of results.
//!
//! Each is written once, over results, whose errors are notices that keep their place. The plain
//! form is the same over a stream that has none.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::Stream;
use pin_project_lite::pin_project;

pin_project! {
    /// A stream as one of results that are never errors.
    pub(super) struct Plain<St> {
        #[pin]
        pub(super) stream: St,
    }
}

impl<St: Stream> Stream for Plain<St> {
    type Item = Result<St::Item, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project().stream.poll_next(cx).map(|item| item.map(Ok))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

/// What futures' combinators have, and `Debug`. `path` leads to the stream.
macro_rules! access {
    ($name:ident<$($param:ident),*>: $bound:ident, $($path:ident).+) => {
        impl<$($param),*> $name<$($param),*>
        where
            St: $bound,
        {
            /// The stream below.
            pub fn get_ref(&self) -> &St {
                &self.$($path).+
            }

            /// The stream below. The combinator does not see what is taken from it here.
            pub fn get_mut(&mut self) -> &mut St {
                &mut self.$($path).+
            }

            /// The stream below, pinned.
            pub fn get_pin_mut(self: std::pin::Pin<&mut Self>) -> std::pin::Pin<&mut St> {
                self$(.project().$path)+
            }

            /// The stream below. What the combinator has taken and not yet yielded is lost.
            #[must_use]
            pub fn into_inner(self) -> St {
                self.$($path).+
            }
        }

        impl<$($param),*> std::fmt::Debug for $name<$($param),*>
        where
            St: $bound + std::fmt::Debug,
        {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("stream", self.get_ref())
                    .finish_non_exhaustive()
            }
        }
    };
}

/// The form for streams without notices of a combinator over results.
macro_rules! plain {
    (
        $(#[$doc:meta])*
        $name:ident<$($param:ident),*> of $form:ident<Plain $(, $more:ident)*>
        over $($path:ident).+, yields $item:ty, where $($bounds:tt)*
    ) => {
        pin_project_lite::pin_project! {
            $(#[$doc])*
            #[must_use = "streams do nothing unless polled"]
            pub struct $name<$($param),*>
            where
                St: Stream,
            {
                #[pin]
                form: $form<super::form::Plain<St> $(, $more)*>,
            }
        }

        impl<$($param),*> $name<$($param),*>
        where
            St: Stream,
        {
            pub(super) fn new(form: $form<super::form::Plain<St> $(, $more)*>) -> Self {
                Self { form }
            }
        }

        access!($name<$($param),*>: Stream, form.$($path).+.stream);

        impl<$($param),*> Stream for $name<$($param),*>
        where
            $($bounds)*
        {
            type Item = $item;

            fn poll_next(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Self::Item>> {
                self.project().form.poll_next(cx).map(|item| item.map(|Ok(item)| item))
            }
        }

        impl<$($param),*> FusedStream for $name<$($param),*>
        where
            $($bounds)*
        {
            fn is_terminated(&self) -> bool {
                self.form.is_terminated()
            }
        }
    };
}
