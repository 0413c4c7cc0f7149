### Every text of llmquota, in English, which the other languages fall back to.
###
### A notice is one message: its value is the text, its attributes are the title and up to three actions.
### $name is a raw value to choose by; $name-text is the same value laid out for the reader.

## How numbers, money, times and lengths of time are written

number-group = { "," }
number-decimal = { "." }
number-none = { "—" }
number-usd = ${ $number }
number-percent = { $number }%
time = { $day } { $month ->
    [1] January
    [2] February
    [3] March
    [4] April
    [5] May
    [6] June
    [7] July
    [8] August
    [9] September
    [10] October
    [11] November
   *[12] December
} { $year }, { $clock } UTC
seconds = { $count-text } { $count ->
    [one] second
   *[other] seconds
}
minutes = { $count-text } { $count ->
    [one] minute
   *[other] minutes
}
hours = { $count-text } { $count ->
    [one] hour
   *[other] hours
}
days = { $count-text } { $count ->
    [one] day
   *[other] days
}
two-units = { $first } and { $second }

## Parts that several notices share

# Whose limit it is.
subject = { $scope ->
    [goal] Goal “{ $account }”
    [task] Task “{ $account }”
    [model] Model “{ $account }”, as this workspace uses it,
    [user] User “{ $account }”
    [credential] The provider credential “{ $account }”, which all workspaces share,
    [provider_model] The provider’s model “{ $account }”, which all workspaces share,
    [limiter] Limiter “{ $account }”
   *[workspace] This workspace
}
# The limit itself: how much, of what, in which time.
ceiling = { $limit ->
    [requests_per_minute] { $cap-text } { $cap ->
        [one] request
       *[other] requests
    } per minute
    [requests_per_hour] { $cap-text } { $cap ->
        [one] request
       *[other] requests
    } per hour
    [requests_per_day] { $cap-text } { $cap ->
        [one] request
       *[other] requests
    } per day
    [tokens_per_minute] { $cap-text } { $cap ->
        [one] token
       *[other] tokens
    } per minute
    [tokens_per_day] { $cap-text } { $cap ->
        [one] token
       *[other] tokens
    } per day
    [budget_usd_per_day] { $cap-text } per day
    [budget_usd_per_month] { $cap-text } per month
    [max_concurrent] { $cap-text } { $cap ->
        [one] call
       *[other] calls
    } at a time
   *[max_burst] { $cap-text } { $cap ->
        [one] request
       *[other] requests
    } per second
}
# How much of it is gone.
share = { $limit ->
    [max_concurrent] { subject } has { $taken-text } open, of { ceiling }
   *[other] { subject } has used { $taken-text } of { ceiling }
} ({ $percent-text }){ $held ->
    [0] { "" }
   *[other] , including { $held-text } set aside for open calls
}
asked = { $limit ->
    [tokens_per_minute] { $asked-text } { $asked ->
        [one] token
       *[other] tokens
    }
    [tokens_per_day] { $asked-text } { $asked ->
        [one] token
       *[other] tokens
    }
    [budget_usd_per_day] { $asked-text }
    [budget_usd_per_month] { $asked-text }
    [max_concurrent] { $asked-text } { $asked ->
        [one] call
       *[other] calls
    }
   *[other] { $asked-text } { $asked ->
        [one] request
       *[other] requests
    }
}
more = { $more ->
    [0] { "" }
    [one] { " " }{ $more-text } more limit is in the way.
   *[other] { " " }{ $more-text } more limits are in the way.
}
retry = { $retry ->
    [at] Try again in { $wait-text } ({ $at-text }).
    [call-ends] Try again when an open call has ended.
    [blocked] The limit is 0: nothing passes until it is raised.
   *[later] Try again later.
}
action-retry = { $retry ->
    [at] Wait { $wait-text } before you try again
    [call-ends] Wait until an open call has ended
    [blocked] Ask your administrator to raise the limit
   *[later] Wait before you try again
}

## The state of a workspace

status-normal = { "" }
    .title = { "" }
status-near = { share }. { $mode ->
    [observe] This limit is only observed: no call is refused for it.
   *[enforce] Calls are refused once it is full.
}
    .title = API Quota Warning
    .action-1 = Watch the usage as it happens
    .action-2 = Reduce or postpone work that makes many API calls
    .action-3 = Ask your administrator for a higher limit
status-critical = { share }. Little or nothing is left. { $mode ->
    [observe] This limit is only observed: no call is refused for it.
   *[enforce] Calls are refused once it is full.
}
    .title = API Quota Warning
    .action-1 = Postpone work that can wait
    .action-2 = See which goals and tasks use most
    .action-3 = Ask your administrator for a higher limit
status-rate-limited = { share }. { retry }
    .title = Rate Limited
    .action-1 = { action-retry }
    .action-2 = Make fewer API calls at the same time
    .action-3 = Ask your administrator for a higher limit
status-rate-limited-by-provider = The provider has asked to slow down ({ $cause }). { retry }
    .title = Rate Limited
    .action-1 = { action-retry }
    .action-2 = Make fewer API calls at the same time
    .action-3 = Check the limits of your plan on the provider’s dashboard
status-quota-exceeded = { share }. { retry }
    .title = Quota Exceeded
    .action-1 = { action-retry }
    .action-2 = See which goals and tasks used most
    .action-3 = Ask your administrator for a higher limit
status-quota-exceeded-by-provider = The provider says that its own quota is spent ({ $cause }). { retry }
    .title = Quota Exceeded
    .action-1 = Check plan and billing on the provider’s dashboard
    .action-2 = { action-retry }
    .action-3 = Contact support if this persists
status-degraded = The provider fails too often at present ({ $cause }), so calls to it are held back. { retry }
    .title = Degraded Service
    .action-1 = { action-retry }
    .action-2 = Go on with work that needs no API call
    .action-3 = Check the provider’s status page

## Short texts of /check

check-normal = All systems operational. API requests proceed normally.
check-warning = API usage is approaching a limit. Requests may be refused soon.
    .action-1 = Monitor usage
    .action-2 = Consider reducing API calls
check-rate-limited = Rate limit reached. { retry }
    .action-1 = { action-retry }
    .action-2 = Reduce the request rate
check-quota-exceeded = Quota exceeded. { retry }
    .action-1 = Upgrade the plan or raise the limit
    .action-2 = { action-retry }
check-degraded = The provider fails too often at present. Some calls are held back.

## The answer to one call

allowed = { "" }
    .title = { "" }
refused-rate = { share }; this call asks for { asked }. { retry }{ more }
    .title = Rate Limited
    .action-1 = { action-retry }
    .action-2 = Make fewer API calls at the same time
refused-quota = { share }; this call asks for { asked }. { retry }{ more }
    .title = Quota Exceeded
    .action-1 = { action-retry }
    .action-2 = Ask your administrator for a higher limit
refused-never-fits = This call asks for { asked }, more than the limit can ever give. { subject } may use { ceiling }.{ more }
    .title = Call Too Large
    .action-1 = Split the call into smaller ones
    .action-2 = Ask your administrator for a higher limit
refused-provider-quota = The provider says that its own quota is spent ({ $cause }). { retry }
    .title = Quota Exceeded
    .action-1 = Check plan and billing on the provider’s dashboard
    .action-2 = { action-retry }
refused-provider-rate = The provider has asked to slow down ({ $cause }). { retry }
    .title = Rate Limited
    .action-1 = { action-retry }
    .action-2 = Make fewer API calls at the same time
refused-provider-failing = The provider fails too often at present ({ $cause }), so this call was not sent. { retry }
    .title = Degraded Service
    .action-1 = { action-retry }
    .action-2 = Check the provider’s status page
refused-provider-other = Calls to the provider are held back ({ $cause }). { retry }
    .title = Degraded Service
    .action-1 = { action-retry }
    .action-2 = Check the provider’s status page
refused-queue = { $ahead ->
    [one] { $ahead-text } other call waits for the same limit and was first.
   *[other] { $ahead-text } other calls wait for the same limit and were first.
} { retry }
    .title = Waiting Line
    .action-1 = { action-retry }
refused-store-busy = The quota store did not answer in time, so this call was not sent.
    .title = Quota Store Busy
    .action-1 = Try again in a moment
refused-store-full = The quota store has no room for another entry, so this call was not sent.
    .title = Quota Store Full
    .action-1 = Ask your administrator to give the store more room
